import type { ChatRequest } from "@/api/types";
import type { Sampling, SearchMode } from "@/settings/store";

/** Whether to search; an object says for what. */
export type SearchChoice = SearchMode | { query: string };

export interface Choices {
  model: string | null;
  sampling: Sampling;
  search: SearchChoice;
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
    ...(choices.search === "auto" ? {} : { search: searchField(choices.search) }),
    ...(choices.tokenView ? { logprobs: true, top_logprobs: 5 } : {}),
    stream_options: { include_usage: true },
  };
}

function searchField(search: Exclude<SearchChoice, "auto">): ChatRequest["search"] {
  return typeof search === "object" ? search : search === "on";
}
