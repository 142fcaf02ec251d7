/** A piece of a prompt as it is shown. */
export interface PromptPiece {
  id: number;
  text: string;
  /** It stands in no message: the template, or a search, has added it. */
  added: boolean;
  /** One token for a whole mark, which no text can be mistaken for. */
  special: boolean;
}

/**
 * Tells the tokens of a prompt's messages from what was added around them.
 *
 * `contents` are the texts of the messages in their order; those that the prompt lacks were dropped.
 */
export function markPrompt(
  tokens: { id: number; text: string }[],
  contents: string[],
): PromptPiece[] {
  const text = tokens.map((token) => token.text).join("");
  const said: [number, number][] = [];
  let from = text.length;
  for (const content of contents.toReversed()) {
    const at = content ? text.lastIndexOf(content, from - content.length) : -1;
    // Tokens within a character do not join to the message's text: then nothing is marked.
    if (at < 0) continue;
    said.push([at, at + content.length]);
    from = at;
  }
  let at = 0;
  return tokens.map(({ id, text: piece }) => {
    const [start, end] = [at, at + piece.length];
    at = end;
    const special = /^<\|[^|]+\|>$/.test(piece);
    const added = !said.some(([first, last]) => start < last && end > first);
    return { id, text: piece, special, added: special || (said.length > 0 && added) };
  });
}
