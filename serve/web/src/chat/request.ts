import type { ChatRequest, ResponseFormat, SourceChoice } from "@/api/types";
import type { AnswerFormat, Sampling, SearchMode } from "@/settings/store";
import { systemAt } from "./choices";
import { ancestry, type Message, type Thread } from "./tree";

/** Whether to search; an object says for what. */
export type SearchChoice = SearchMode | { query: string };

export interface Choices {
  model: string | null;
  /** What the reader changed; the rest is the server's. */
  sampling: Partial<Sampling>;
  search: SearchChoice;
  /** Absent: as stored with the conversation, else as the server is configured. */
  sources?: SourceChoice;
  tokenView: boolean;
  format?: AnswerFormat;
}

/** The part of a request that the reader's settings decide. */
export function requestSettings(choices: Choices): Omit<ChatRequest, "messages"> {
  const { seed, stop, ...sampling } = choices.sampling;
  const format = choices.format && formatField(choices.format);
  return {
    ...(choices.model ? { model: choices.model } : {}),
    ...sampling,
    ...(seed === null || seed === undefined ? {} : { seed }),
    ...(stop?.length ? { stop } : {}),
    ...(format ? { response_format: format } : {}),
    ...(choices.search === "auto" ? {} : { search: searchField(choices.search) }),
    ...(choices.sources ? { search_sources: choices.sources } : {}),
    ...(choices.tokenView ? { logprobs: true, top_logprobs: 5 } : {}),
    stream_options: { include_usage: true },
  };
}

/** The format to ask for; a schema that is no JSON object asks for nothing, which the settings say. */
export function formatField({ type, schema }: AnswerFormat): ResponseFormat | undefined {
  if (type === "text") return undefined;
  if (type === "json_object") return { type };
  const parsed = parseSchema(schema);
  return parsed && { type, json_schema: { name: "answer", schema: parsed } };
}

export function parseSchema(text: string): object | undefined {
  try {
    const parsed = JSON.parse(text) as unknown;
    return parsed && typeof parsed === "object" && !Array.isArray(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function searchField(search: Exclude<SearchChoice, "auto">): ChatRequest["search"] {
  return typeof search === "object" ? search : search === "on";
}

/**
 * What stands where a question is asked: the new messages, and the stored one that they follow.
 *
 * A question that the server has, under the same system prompt, is not sent once more: what it
 * gets is how the answer begins, which may be with nothing. A system prompt is sent where it differs
 * from the one above; an empty one takes that away.
 */
export function placeOf(
  thread: Thread,
  question: Message,
  system: string,
  beginning?: string,
): Pick<ChatRequest, "messages" | "parent_id"> {
  const begun = { role: "assistant" as const, content: beginning ?? "" };
  const wanted = system.trim();
  const above = systemAt(thread, question.parentId);
  const asBefore = beginning !== undefined || wanted === (question.system ?? above);
  if (question.serverId && asBefore) {
    return { messages: [begun], parent_id: question.serverId };
  }
  const messages: ChatRequest["messages"] = [];
  if (wanted !== above) messages.push({ role: "system", content: wanted });
  const { stored, lost } = newestStored(thread, question);
  if (lost) messages.push({ role: "assistant", content: lost.content });
  messages.push({ role: "user", content: question.content });
  if (beginning !== undefined) messages.push(begun);
  return { messages, parent_id: stored?.serverId ?? null };
}

/** All messages up to a question, for a server that keeps none of them. */
export function wholeOf(
  thread: Thread,
  question: Message,
  system: string,
  beginning?: string,
): ChatRequest["messages"] {
  const said = ancestry(thread, question.id).filter(({ content }) => content !== "");
  return [
    ...(system.trim() ? [{ role: "system" as const, content: system.trim() }] : []),
    ...said.map(({ role, content }) => ({ role, content })),
    ...(beginning === undefined ? [] : [{ role: "assistant" as const, content: beginning }]),
  ];
}

/**
 * The newest message above a question that the server has, and the answer to it that was lost with its
 * server, if one was: what had come of that is sent with the question. An answer that failed was not
 * stored; what follows it hangs on the one before.
 */
function newestStored(thread: Thread, question: Message): { stored?: Message; lost?: Message } {
  const before = ancestry(thread, question.parentId);
  const answer = before.findLast((message) => message.role === "assistant" && message.serverId);
  if (answer?.status !== "dropped") return { stored: answer };
  return { stored: thread.byId[answer.parentId ?? ""], lost: answer };
}
