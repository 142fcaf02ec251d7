import type { ModelCard } from "@/api/types";

export interface Suggestion {
  title: string;
  prompt: string;
}

/** Kinds of tasks in the built-in instruction data; the models speak English. */
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

/** Questions of the kind that the checkpoint was trained to answer. */
export function suggestionsFor(card: ModelCard | undefined): Suggestion[] {
  const data = JSON.stringify(card?.data ?? "").toLowerCase();
  if (/alpaca|dolly|instruction|book/.test(data)) return general;
  if (card && !card.data && card.steps === 0) return base;
  return basics;
}
