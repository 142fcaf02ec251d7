import { deletePatiently } from "@/api/delete";
import { conversationPath, isUnavailable, queryClient } from "@/api/queries";
import type { ChatRequest, Health } from "@/api/types";
import { useSettings } from "@/settings/store";
import { isAnswering, write } from "./answering";
import { keepBranches } from "./branches";
import { modelOf, systemAt, systemOf } from "./choices";
import { hiddenMessages } from "./hidden";
import { isUnstored } from "./kept";
import { placeOf, requestSettings, wholeOf } from "./request";
import { sourcesOf } from "./source-choice";
import { getThread, useChat } from "./store";
import { isTemporary } from "./temporary";
import { type Beginning, givenToken } from "./tokens";
import {
  append,
  choose,
  type Message,
  newMessage,
  type Override,
  pathOf,
  remove,
  update,
} from "./tree";

/** Asks a question at the end of the shown branch and streams the answer. */
export function send(conversation: string, text: string): Promise<void> {
  const parent = pathOf(getThread(conversation)).at(-1) ?? null;
  return ask(conversation, parent, text);
}

/** Asks a question in another wording, as a branch beside the first one. */
export function editAndResend(conversation: string, id: string, text: string): Promise<void> {
  return ask(conversation, getThread(conversation).byId[id]?.parentId ?? null, text);
}

/** Answers the same question anew; the old answer stays as a sibling. */
export function regenerate(
  conversation: string,
  answerId: string,
  override: Pick<Override, "search" | "model"> = {},
): Promise<void> {
  const old = getThread(conversation).byId[answerId];
  if (!old?.parentId) return Promise.resolve();
  // What brought nothing is replaced.
  if (isUnstored(old) && old.content === "") cancelHeld(conversation, answerId);
  return answer(conversation, old.parentId, override);
}

/** Answers a question that has no answer, or none any more. */
export function answerQuestion(conversation: string, questionId: string): Promise<void> {
  return answer(conversation, questionId);
}

/** Writes another answer that begins as `beginning` says; the old one stays as a sibling. */
export function forkAnswer(
  conversation: string,
  answerId: string,
  beginning: Beginning,
): Promise<void> {
  const old = getThread(conversation).byId[answerId];
  if (!old?.parentId) return Promise.resolve();
  return answer(conversation, old.parentId, { ...sameGround(old), beginning });
}

/**
 * Goes on with an answer where it was cut off.
 *
 * The server keeps what comes of it as an answer of its own, which takes the old one's place.
 */
export async function continueAnswer(conversation: string, answerId: string): Promise<void> {
  const { byId } = getThread(conversation);
  const old = byId[answerId];
  const question = old?.parentId ? byId[old.parentId] : undefined;
  if (!old || !question || isAnswering(conversation)) return;
  const beginning = { content: old.content, tokens: old.tokens };
  const body = requestFor(conversation, question, { ...sameGround(old), beginning });
  useChat.getState().change(conversation, (thread) =>
    update(thread, answerId, {
      status: "streaming",
      tokens: tokensOf(beginning, body),
      finishReason: null,
      feedback: null,
      error: undefined,
    }),
  );
  if (old.serverId) hiddenMessages.add(old.serverId);
  await write(conversation, answerId, body);
  const { serverId } = getThread(conversation).byId[answerId] ?? {};
  if (old.serverId && serverId !== old.serverId) await drop(conversation, old.serverId);
  else if (old.serverId) hiddenMessages.delete(old.serverId);
}

/** The model and the sources of an answer, for another one to stand on. */
export function sameGround({ model, sources }: Message): Override {
  return { model, search: sources?.sources.length ? { query: sources.query } : "off" };
}

/** The tokens to show before those that the request's answer brings, when it brings any. */
function tokensOf({ content, tokens }: Beginning, body: ChatRequest): Message["tokens"] {
  if (!body.logprobs || content === "") return undefined;
  return tokens ?? [givenToken(content)];
}

export function showVersion(conversation: string, id: string): void {
  useChat.getState().change(conversation, (thread) => choose(thread, id));
  keepBranches(conversation, getThread(conversation));
}

function ask(conversation: string, parentId: string | null, text: string): Promise<void> {
  const wanted = systemOf(conversation);
  const system = wanted === systemAt(getThread(conversation), parentId) ? undefined : wanted;
  const question = {
    ...newMessage({ role: "user", parentId, content: text, status: "done" }),
    system,
  };
  useChat.getState().change(conversation, (thread) => append(thread, question));
  return answer(conversation, question.id);
}

/** What the server needs beyond what it has: the question, and which answer it follows. */
export function requestFor(
  conversation: string,
  question: Message,
  { beginning, search, model }: Override,
): ChatRequest {
  const settings = useSettings.getState();
  const searches = queryClient.getQueryData<Health>(["health"])?.search?.enabled;
  const choices = requestSettings({
    ...settings,
    model: model ?? modelOf(conversation),
    sources: sourcesOf(conversation),
    search: searches === false ? "off" : (search ?? settings.search),
    // What goes on with a text cannot be held to a format.
    format: beginning?.content ? undefined : settings.format,
  });
  const thread = getThread(conversation);
  const system = systemOf(conversation);
  if (isTemporary(conversation)) {
    return { ...choices, messages: wholeOf(thread, question, system, beginning?.content) };
  }
  const place = placeOf(thread, question, system, beginning?.content);
  return { ...choices, ...place, session_id: conversation };
}

async function answer(
  conversation: string,
  questionId: string,
  override: Override = {},
): Promise<void> {
  const question = getThread(conversation).byId[questionId];
  if (!question || isAnswering(conversation)) return;
  const held = isUnavailable();
  const body = requestFor(conversation, question, override);
  const { beginning } = override;
  const message: Message = {
    ...newMessage({
      role: "assistant",
      parentId: questionId,
      content: beginning?.content ?? "",
      status: held ? "waiting" : "streaming",
    }),
    tokens: beginning && tokensOf(beginning, body),
    model: body.model ?? null,
    override,
  };
  const { content: system } = body.messages.find(({ role }) => role === "system") ?? {};
  useChat.getState().change(conversation, (thread) => {
    const asked = system === undefined ? thread : update(thread, questionId, { system });
    return append(asked, message);
  });
  if (!held) await write(conversation, message.id, body);
}

/** Asks for an answer that was held back, now that the server is there. */
export async function sendHeld(conversation: string, answerId: string): Promise<void> {
  const held = getThread(conversation).byId[answerId];
  const question = held?.parentId ? getThread(conversation).byId[held.parentId] : undefined;
  if (held?.status !== "waiting" || !question || isAnswering(conversation)) return;
  const body = requestFor(conversation, question, held.override ?? {});
  useChat
    .getState()
    .change(conversation, (thread) => update(thread, answerId, { status: "streaming" }));
  await write(conversation, answerId, body);
}

/** Takes back an answer that is held back; its question stays. */
export function cancelHeld(conversation: string, answerId: string): void {
  useChat.getState().change(conversation, (thread) => remove(thread, answerId));
}

/** Takes a message off the server. */
export function drop(conversation: string, serverId: string): Promise<void> {
  return deletePatiently(
    `${conversationPath(conversation)}/messages/${encodeURIComponent(serverId)}`,
  );
}
