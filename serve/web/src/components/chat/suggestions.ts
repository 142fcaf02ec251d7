import type { ModelCard } from "@/api/types";
import type { Dictionary } from "@/i18n/en";

export interface Suggestion {
  /** The name of its kind, as a word of the dictionary. */
  title: keyof Dictionary & `kind${string}`;
  prompt: string;
}

/** A question for each kind of task in the built-in instruction data; the models speak English. */
const byFamily: Record<string, Suggestion> = {
  capitals: { title: "kindCapitals", prompt: "What is the capital of France?" },
  opposites: { title: "kindOpposites", prompt: "What is the opposite of hot?" },
  sums: { title: "kindSums", prompt: "What is 3 plus 4?" },
  sorting: { title: "kindSorting", prompt: "Order these words from A to Z: moon rain gold" },
  plurals: { title: "kindPlurals", prompt: "What is the plural of child?" },
  past_tense: { title: "kindPastTense", prompt: "What is the past tense of go?" },
  animals: { title: "kindAnimals", prompt: "What is a young dog called?" },
  elements: { title: "kindElements", prompt: "What is the chemical symbol for gold?" },
  countries: { title: "kindCountries", prompt: "What is the main language of Brazil?" },
  everyday: { title: "kindEverydayThings", prompt: "What colour is snow?" },
  calendar: { title: "kindCalendar", prompt: "What comes after Monday?" },
  letters: { title: "kindLetters", prompt: "What is the first letter of garden?" },
  spelling: { title: "kindSpelling", prompt: "How do you spell house?" },
  counting: { title: "kindCounting", prompt: "How many letters has the word tree?" },
  comparisons: { title: "kindComparisons", prompt: "Which is larger, 12 or 21?" },
  units: { title: "kindUnits", prompt: "How many hours are 2 days?" },
  identity: { title: "kindWhoIsThere", prompt: "Who are you?" },
};

/** What is suggested where a checkpoint has not been scored. */
const basics: Suggestion[] = [
  { title: "kindFact", prompt: "What is the capital of France?" },
  { title: "kindWord", prompt: "What is the opposite of hot?" },
  { title: "kindSmallSum", prompt: "What is 3 plus 4?" },
  { title: "kindSorting", prompt: "Order these words from A to Z: moon rain gold" },
];

/** What general instruction sets (the book's, Alpaca, Dolly) are made of. */
const general: Suggestion[] = [
  {
    title: "kindRewrite",
    prompt: "Rewrite the sentence in passive voice: The chef cooked the meal.",
  },
  { title: "kindExplain", prompt: "Explain in one sentence why the sky is blue." },
  { title: "kindCompare", prompt: "Describe a thunderstorm with a simile." },
  { title: "kindList", prompt: "Name three things to pack for a day in the mountains." },
];

/** Raw text for a base model to go on with. */
const base: Suggestion[] = [
  {
    title: "kindStory",
    prompt: "The lighthouse keeper had not spoken to anyone for a year, until",
  },
  { title: "kindArticle", prompt: "The history of the bicycle begins in" },
];

/** Questions of the kinds that the checkpoint was trained to answer, those it answers best first. */
export function suggestionsFor(card: ModelCard | undefined): Suggestion[] {
  const best = (card?.families ?? []).flatMap((family) => byFamily[family] ?? []);
  if (best.length >= 4) return best.slice(0, 4);
  const data = JSON.stringify(card?.data ?? "").toLowerCase();
  if (/alpaca|dolly|instruction|book/.test(data)) return general;
  if (card && !card.data && card.steps === 0) return base;
  return basics;
}
