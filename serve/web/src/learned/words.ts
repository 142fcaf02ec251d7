import { shownLanguage, useLanguage } from "@/i18n";
import { useSettings } from "@/settings/store";

/** The words of what was learned. */
const en = {
  ask: "May your conversations help to train the next model?",
  askNote:
    "Your corrections, ratings and votes, with the conversations around them, would be used. Without your yes nothing is. You can change it in the settings.",
  yes: "Yes",
  no: "No",
  later: "Not now",
  switch: "Train on my judgements",
  off: "Nothing you write or judge is used for training.",
  on: "Corrections, ratings and votes are used, with the conversations around them. What is withdrawn is left out from the next training on.",
  always: "Whoever runs this server has everybody's consent.",
  never: "This server trains on nobody's conversations.",
  note: "Which of your judgements are in which model, and what changed.",
  nothing: "You have not judged an answer yet.",
  models: "Models",
  judgements: "Your judgements",
  former: "Withdrawn or changed, and still in a model",
  state: { in_service: "in service", replaced: "replaced", not_promoted: "not promoted" },
  from: (name: string) => `trained from ${name}`,
  of: (yours: number, all: number) => `${yours} of its ${all} judgements are yours`,
  changed: (count: number) => `Your questions, before and after: ${count}`,
  before: "Before",
  after: "After",
  right: "right",
  wrong: "wrong",
  expected: "You said",
  kind: { correction: "Correction", approval: "Good", rejection: "Bad", vote: "Vote" },
  use: {
    trained: "trained on it",
    measured: "measured with it",
    inherited: "trained from a model that has it",
  },
  unused: "In no model",
  withdraw: "Withdraw",
  withdrawn: "Withdrawn: no later training uses it.",
  stays: (names: string) => `${names} keeps what it learned from it.`,
  failed: "This could not be done.",
  more: "More",
};

const de: typeof en = {
  ask: "Dürfen deine Gespräche helfen, das nächste Modell zu trainieren?",
  askNote:
    "Verwendet würden deine Korrekturen, Bewertungen und Stimmen samt den Gesprächen darum herum. Ohne dein Ja wird nichts verwendet. In den Einstellungen kannst du das ändern.",
  yes: "Ja",
  no: "Nein",
  later: "Nicht jetzt",
  switch: "Mit meinen Urteilen trainieren",
  off: "Nichts, was du schreibst oder beurteilst, wird zum Training verwendet.",
  on: "Korrekturen, Bewertungen und Stimmen werden verwendet, samt den Gesprächen darum herum. Was du zurückziehst, fehlt ab dem nächsten Training.",
  always: "Wer diesen Server betreibt, hat das Einverständnis aller.",
  never: "Dieser Server trainiert mit niemandes Gesprächen.",
  note: "Welche deiner Urteile in welchem Modell sind und was sich geändert hat.",
  nothing: "Du hast noch keine Antwort beurteilt.",
  models: "Modelle",
  judgements: "Deine Urteile",
  former: "Zurückgezogen oder geändert und noch in einem Modell",
  state: { in_service: "im Dienst", replaced: "abgelöst", not_promoted: "nicht übernommen" },
  from: (name) => `trainiert aus ${name}`,
  of: (yours, all) => `${yours} seiner ${all} Urteile sind von dir`,
  changed: (count) => `Deine Fragen, vorher und nachher: ${count}`,
  before: "Vorher",
  after: "Nachher",
  right: "richtig",
  wrong: "falsch",
  expected: "Du sagtest",
  kind: { correction: "Korrektur", approval: "Gut", rejection: "Schlecht", vote: "Stimme" },
  use: {
    trained: "damit trainiert",
    measured: "damit gemessen",
    inherited: "aus einem Modell trainiert, das es hat",
  },
  unused: "In keinem Modell",
  withdraw: "Zurückziehen",
  withdrawn: "Zurückgezogen: kein späteres Training verwendet es.",
  stays: (names) => `${names} behält, was es daraus gelernt hat.`,
  failed: "Das ging nicht.",
  more: "Mehr",
};

export function useLearnedWords(): typeof en {
  return useLanguage() === "de" ? de : en;
}

export function learnedWords(): typeof en {
  return shownLanguage(useSettings.getState().language) === "de" ? de : en;
}
