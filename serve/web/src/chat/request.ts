import type { ChatRequest } from "@/api/types";
import type { Sampling, SearchMode } from "@/settings/store";
import { ancestry, type Message, type Thread } from "./tree";

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

/**
 * What stands where a question is asked: the new messages, and the stored one that they follow.
 *
 * A question that the server has, under the same system prompt, is not sent once more: what it
 * gets is how the answer begins, which may be with nothing.
 */
export function placeOf(
  thread: Thread,
  question: Message,
  system: string,
  beginning?: string,
): Pick<ChatRequest, "messages" | "parent_id"> {
  const begun = { role: "assistant" as const, content: beginning ?? "" };
  const above = question.parentId === null ? system.trim() : "";
  const asBefore = beginning !== undefined || above === (question.system ?? "");
  if (question.serverId && asBefore) {
    return { messages: [begun], parent_id: question.serverId };
  }
  const messages: ChatRequest["messages"] = [];
  if (above) messages.push({ role: "system", content: above });
  messages.push({ role: "user", content: question.content });
  if (beginning !== undefined) messages.push(begun);
  return { messages, parent_id: newestStored(thread, question) };
}

/** An answer that failed was not stored; what follows it hangs on the one before. */
function newestStored(thread: Thread, question: Message): string | null {
  const before = ancestry(thread, question.parentId);
  const answer = before.findLast((message) => message.role === "assistant" && message.serverId);
  return answer?.serverId ?? null;
}
