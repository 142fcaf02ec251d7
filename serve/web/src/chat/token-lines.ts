import type { TokenLogprob } from "@/api/types";

/** The tokens from `from` up to `to` (without it), which end a line or the text. */
export interface TokenLine {
  from: number;
  to: number;
}

/** Cuts tokens into lines: what is finished needs neither rendering nor layout while the last one grows. */
export function linesOf(tokens: TokenLogprob[]): TokenLine[] {
  const lines: TokenLine[] = [];
  let from = 0;
  tokens.forEach(({ token }, i) => {
    if (!token.endsWith("\n")) return;
    lines.push({ from, to: i + 1 });
    from = i + 1;
  });
  if (from < tokens.length) lines.push({ from, to: tokens.length });
  return lines;
}
