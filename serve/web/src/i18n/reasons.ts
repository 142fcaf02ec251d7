import type { Dictionary } from "./en";

/** What the server says before a name or a word of the question. */
const openings = [
  ["asks for a fact about ", "reasonFactAbout"],
  ["asks about ", "reasonAbout"],
  ["asks for something that changes (", "reasonChanges"],
  ["asks for the one thing that is ", "reasonOneThing"],
  ["follows a message that needs no search", "reasonFollowsNone"],
  ["follows: ", "reasonFollows"],
] as const;

const whole = {
  "small talk": "reasonSmallTalk",
  "about the assistant itself": "reasonAssistant",
  "about code": "reasonCode",
  "a calculation": "reasonSum",
  "works on words or text that it already has": "reasonWords",
  "the query was given": "reasonGiven",
  "nothing is asked": "reasonEmpty",
  "a search is asked for": "reasonAsked",
  "the message brings its own text": "reasonOwnText",
  "asks who, when or where something was": "reasonEvent",
  "a question that the documents may answer": "reasonDocuments",
  "nothing in it asks for facts that change or about a named thing": "reasonNothing",
} as const;

/** The server's reason for a search, or for none, in the reader's language where we know it. */
export function reasonIn(t: Dictionary, reason: string): string {
  const known = whole[reason as keyof typeof whole];
  if (known) return t[known];
  for (const [opening, name] of openings) {
    if (!reason.startsWith(opening)) continue;
    const said = t[name];
    if (typeof said === "string") return said;
    const rest = reason.slice(opening.length).replace(/\)$/, "");
    return said(opening === "follows: " ? reasonIn(t, rest) : rest);
  }
  return reason;
}
