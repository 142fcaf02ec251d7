import type { SearchProblem, SearchReason } from "@/api/types";
import type { Dictionary } from "./en";

const reasons = {
  search_requested: "reasonAsked",
  query_given: "reasonGiven",
  changing_fact: "reasonChanges",
  named_fact: "reasonFactAbout",
  event_fact: "reasonEvent",
  document_question: "reasonDocuments",
  empty: "reasonEmpty",
  own_text: "reasonOwnText",
  small_talk: "reasonSmallTalk",
  assistant: "reasonAssistant",
  code: "reasonCode",
  calculation: "reasonSum",
  given_words: "reasonWords",
  no_fact: "reasonNothing",
} as const satisfies Record<SearchReason["code"], keyof Dictionary>;

const problems = {
  no_room: "problemNoRoom",
  no_results: "noSources",
  no_match: "problemNoMatch",
  rate_limited: "problemRefused",
  timeout: "problemTimeout",
  unreachable: "problemUnreachable",
  failed: "problemFailed",
} as const satisfies Record<SearchProblem["code"], keyof Dictionary>;

/** Why there was a search, or none, in the reader's language; `sentence` where the server gives no code that we know. */
export function reasonIn(
  t: Dictionary,
  why: SearchReason | null | undefined,
  sentence: string,
): string {
  const said = why && t[reasons[why.code]];
  if (!said) return sentence;
  const words = typeof said === "string" ? said : said(why.subject ?? "…");
  return why.follows ? t.reasonFollows(words) : words;
}

/** What went wrong with a search, and what the answer draws on instead. */
export function problemIn(
  t: Dictionary,
  language: string,
  problem: SearchProblem | null | undefined,
  sentence: string,
): string {
  const said = problem && t[problems[problem.code]];
  if (!said) return sentence;
  if (problem.answered) return `${said} ${t.problemAnswered(problem.answered)}`;
  if (typeof problem.age_s === "number") {
    return `${said} ${t.problemOld(ageIn(language, problem.age_s))}`;
  }
  return said;
}

/** A time in its largest whole unit: "2 hours". */
function ageIn(language: string, seconds: number): string {
  const units = [
    ["day", 86_400],
    ["hour", 3_600],
    ["minute", 60],
  ] as const;
  const [unit, size] = units.find(([, size]) => seconds >= size) ?? (["minute", 60] as const);
  const style = { style: "unit", unit, unitDisplay: "long" } as const;
  return new Intl.NumberFormat(language, style).format(Math.max(1, Math.floor(seconds / size)));
}
