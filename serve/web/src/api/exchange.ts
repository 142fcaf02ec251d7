import { request, requestJson } from "./client";

/** What an import did. */
export interface Imported {
  imported: number;
  skipped: number;
}

/** Files of the server's own making, for the reader to keep. */
export const exports = ["conversations", "training", "preferences"] as const;
export type Export = (typeof exports)[number];

export async function fetchExport(name: Export): Promise<string> {
  return (await request(`/v1/${name}.jsonl`)).text();
}

/** Hands a file's conversations to the server. */
export async function importConversations(text: string): Promise<Imported> {
  const body = linesOf(text).join("\n");
  const headers = { "Content-Type": "application/x-ndjson" };
  return requestJson<Imported>("/v1/conversations.jsonl", { method: "POST", headers, body });
}

/** One conversation or example a line, whether the file is JSON (one, or a list of them) or JSONL. */
export function linesOf(text: string): string[] {
  try {
    const whole = JSON.parse(text) as unknown;
    return (Array.isArray(whole) ? whole : [whole]).map((one) => JSON.stringify(one));
  } catch {
    return text.split("\n").filter((line) => line.trim() !== "");
  }
}
