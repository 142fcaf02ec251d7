import type { ChatRequest } from "@/api/types";
import type { Sampling } from "@/settings/store";

export interface Choices {
  model: string | null;
  sampling: Sampling;
  search: boolean;
  tokenView: boolean;
}

/** The part of a request that the reader's settings decide. */
export function requestSettings(choices: Choices): Omit<ChatRequest, "messages"> {
  const { temperature, top_p, top_k, max_tokens, seed } = choices.sampling;
  return {
    ...(choices.model ? { model: choices.model } : {}),
    temperature,
    top_p,
    top_k,
    max_tokens,
    ...(seed === null ? {} : { seed }),
    search: choices.search,
    ...(choices.tokenView ? { logprobs: true, top_logprobs: 5 } : {}),
    stream_options: { include_usage: true },
  };
}
