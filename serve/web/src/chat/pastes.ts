/** From how many characters or lines on a pasted text is folded. */
const LARGE = { chars: 1_500, lines: 20 };

/** Whether a text is so long that it is shown folded. */
export function isLarge(text: string): boolean {
  return text.length > LARGE.chars || text.split("\n").length > LARGE.lines;
}

/** What is sent: the written text, and below it what was pasted. */
export function joinPastes(text: string, pastes: readonly string[]): string {
  return [text.trim(), ...pastes.map((paste) => paste.trim())].filter(Boolean).join("\n\n");
}

export function readPastes(kept: string): string[] {
  try {
    const read = JSON.parse(kept || "[]") as unknown;
    return Array.isArray(read) ? read.filter((one) => typeof one === "string") : [];
  } catch {
    return [];
  }
}
