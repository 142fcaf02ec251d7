import type { ModelCard } from "@/api/types";

export interface Suggestion {
  title: string;
  prompt: string;
}

/** A question for each kind of task in the built-in instruction data; the models speak English. */
const byFamily: Record<string, Suggestion> = {
  capitals: { title: "Capitals", prompt: "What is the capital of France?" },
  opposites: { title: "Opposites", prompt: "What is the opposite of hot?" },
  sums: { title: "Sums", prompt: "What is 3 plus 4?" },
  sorting: { title: "Sorting", prompt: "Order these words from A to Z: moon rain gold" },
  plurals: { title: "Plurals", prompt: "What is the plural of child?" },
  past_tense: { title: "Past tense", prompt: "What is the past tense of go?" },
  animals: { title: "Animals", prompt: "What is a young dog called?" },
  elements: { title: "Elements", prompt: "What is the chemical symbol for gold?" },
  countries: { title: "Countries", prompt: "What is the main language of Brazil?" },
  everyday: { title: "Everyday things", prompt: "What colour is snow?" },
  calendar: { title: "Calendar", prompt: "What comes after Monday?" },
  letters: { title: "Letters", prompt: "What is the first letter of garden?" },
  spelling: { title: "Spelling", prompt: "How do you spell house?" },
  counting: { title: "Counting", prompt: "How many letters has the word tree?" },
  comparisons: { title: "Comparisons", prompt: "Which is larger, 12 or 21?" },
  units: { title: "Units", prompt: "How many hours are 2 days?" },
  identity: { title: "Who is there", prompt: "Who are you?" },
};

/** What is suggested where a checkpoint has not been scored. */
const basics: Suggestion[] = [
  { title: "A fact", prompt: "What is the capital of France?" },
  { title: "A word", prompt: "What is the opposite of hot?" },
  { title: "A small sum", prompt: "What is 3 plus 4?" },
  { title: "Sorting", prompt: "Order these words from A to Z: moon rain gold" },
];

/** What general instruction sets (the book's, Alpaca, Dolly) are made of. */
const general: Suggestion[] = [
  { title: "Rewrite", prompt: "Rewrite the sentence in passive voice: The chef cooked the meal." },
  { title: "Explain", prompt: "Explain in one sentence why the sky is blue." },
  { title: "Compare", prompt: "Describe a thunderstorm with a simile." },
  { title: "List", prompt: "Name three things to pack for a day in the mountains." },
];

/** Raw text for a base model to go on with. */
const base: Suggestion[] = [
  { title: "A story", prompt: "The lighthouse keeper had not spoken to anyone for a year, until" },
  { title: "An article", prompt: "The history of the bicycle begins in" },
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
