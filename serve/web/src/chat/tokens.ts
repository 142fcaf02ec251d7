import type { TokenAlternative, TokenLogprob } from "@/api/types";

/** How an answer begins that is not written from its start: its text, and the tokens known of it. */
export interface Beginning {
  content: string;
  tokens?: TokenLogprob[];
}

/** What stood before the first token of which something is known. */
export function givenToken(text: string): TokenLogprob {
  return { token: text, logprob: 0, top_logprobs: [], given: true };
}

/** The text of tokens. A character may be spread over several, so it is read from their bytes. */
export function textOfTokens(tokens: TokenAlternative[]): string {
  const encoder = new TextEncoder();
  const bytes = tokens.flatMap((one) => one.bytes ?? [...encoder.encode(one.token)]);
  return new TextDecoder().decode(new Uint8Array(bytes));
}

/**
 * The beginning that has the alternative in place of token `index`, and nothing after it; null
 * where it would end within a character.
 */
export function forkAt(
  tokens: TokenLogprob[],
  index: number,
  alternative: TokenAlternative,
): Required<Beginning> | null {
  const replaced = tokens[index];
  if (!replaced) return null;
  const kept = [
    ...tokens.slice(0, index),
    { ...alternative, top_logprobs: replaced.top_logprobs } satisfies TokenLogprob,
  ];
  const content = textOfTokens(kept);
  return content.endsWith("\ufffd") ? null : { content, tokens: kept };
}
