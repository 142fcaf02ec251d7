import { ApiError, OfflineError, request } from "@/api/client";
import { deletePatiently } from "@/api/delete";
import { conversationPath, isUnavailable, queryClient, refreshConversations } from "@/api/queries";
import { followAnswer, type StreamEvent, streamAnswer } from "@/api/stream";
import type { ChatRequest, Health } from "@/api/types";
import { focusComposer } from "@/lib/focus";
import { useSettings } from "@/settings/store";
import { keepBranches } from "./branches";
import { modelOf, systemAt, systemOf } from "./choices";
import { reportError, sentenceOf, tooLong } from "./errors";
import { hiddenMessages } from "./hidden";
import { isUnstored } from "./kept";
import { receive } from "./receive";
import { placeOf, requestSettings, wholeOf } from "./request";
import { getThread, useChat } from "./store";
import { isTemporary } from "./temporary";
import { type Beginning, givenToken } from "./tokens";
import {
  append,
  choose,
  type Message,
  nameQuestion,
  type Override,
  pathOf,
  remove,
  shownAs,
  update,
} from "./tree";

const connections = new Map<string, Connection>();

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
  if (!old || !question || connections.has(conversation)) return;
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
  await write(conversation, answerId, (signal) => patiently(body, signal));
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

/**
 * Stops an answer; what has come is kept. The server goes on when a connection is merely closed, so it
 * is told, as soon as the answer's id is known.
 */
export function stop(conversation: string): void {
  const connection = connections.get(conversation);
  if (!connection) return;
  connection.stopping = true;
  if (connection.answer) end(connection);
}

function end({ controller, answer: id }: Connection): void {
  if (controller.signal.aborted) return;
  const path = `/v1/chat/stream/${encodeURIComponent(id ?? "")}`;
  request(path, { method: "DELETE", keepalive: true }).catch(() => {}); // it ends by itself
  controller.abort();
}

/** Whether an answer in the conversation is on its way to this page. */
export function isAnswering(conversation: string): boolean {
  return connections.has(conversation);
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

function newMessage(given: Pick<Message, "role" | "parentId" | "content" | "status">): Message {
  return { id: crypto.randomUUID(), createdAt: new Date().toISOString(), ...given };
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

/**
 * The stream of an answer. The server may still be storing the one before, which was stopped a
 * moment ago; then it is asked again.
 */
async function* patiently(body: ChatRequest, signal: AbortSignal): AsyncGenerator<StreamEvent> {
  for (let tries = 0; ; tries += 1) {
    try {
      return yield* streamAnswer("/v1/chat/stream", body, signal);
    } catch (reason) {
      if (!(reason instanceof ApiError && reason.status === 409) || tries === 5) throw reason;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }
}

async function answer(
  conversation: string,
  questionId: string,
  override: Override = {},
): Promise<void> {
  const question = getThread(conversation).byId[questionId];
  if (!question || connections.has(conversation)) return;
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
  if (!held) await write(conversation, message.id, (signal) => patiently(body, signal));
}

/** Asks for an answer that was held back, now that the server is there. */
export async function sendHeld(conversation: string, answerId: string): Promise<void> {
  const held = getThread(conversation).byId[answerId];
  const question = held?.parentId ? getThread(conversation).byId[held.parentId] : undefined;
  if (held?.status !== "waiting" || !question || connections.has(conversation)) return;
  const body = requestFor(conversation, question, held.override ?? {});
  useChat
    .getState()
    .change(conversation, (thread) => update(thread, answerId, { status: "streaming" }));
  await write(conversation, answerId, (signal) => patiently(body, signal));
}

/** Takes back an answer that is held back; its question stays. */
export function cancelHeld(conversation: string, answerId: string): void {
  useChat.getState().change(conversation, (thread) => remove(thread, answerId));
}

/**
 * Goes on with an answer that is being written already, as after a reload or for another tab. Resolves
 * to whether there was one.
 */
export async function follow(conversation: string, serverId: string): Promise<boolean> {
  if (connections.has(conversation)) return false;
  const connection = connect(conversation);
  const events = followAnswer(serverId, connection.controller.signal);
  const { change } = useChat.getState();
  try {
    const before: StreamEvent[] = [];
    let first: Extract<StreamEvent, { type: "id" }> | undefined;
    while (!first) {
      const { value, done } = await events.next();
      if (done) return false;
      if (value.type === "id") first = value;
      else before.push(value);
    }
    const thread = getThread(conversation);
    const parentId = first.question ? shownAs(thread, first.question) : undefined;
    if (!parentId) return false;
    const id = shownAs(thread, serverId) ?? serverId;
    const message = {
      ...newMessage({
        role: "assistant",
        parentId,
        content: first.prefix ?? "",
        status: "streaming",
      }),
      id,
      serverId,
    };
    change(conversation, (now) => (now.byId[id] ? update(now, id, message) : append(now, message)));
    connection.answer = serverId;
    await writeOn(connection, conversation, id, () => chain(before, events));
    return true;
  } catch {
    // It has ended meanwhile: what is stored of it comes with the conversation.
    return false;
  } finally {
    if (connections.get(conversation) === connection) connections.delete(conversation);
  }
}

async function* chain(
  first: StreamEvent[],
  rest: AsyncIterable<StreamEvent>,
): AsyncGenerator<StreamEvent> {
  yield* first;
  yield* rest;
}

/** An answer on its way to the page. */
interface Connection {
  controller: AbortController;
  /** The answer's id, as soon as it is known; without it the server cannot be told to stop. */
  answer?: string;
  stopping?: boolean;
}

function connect(conversation: string): Connection {
  const connection = { controller: new AbortController() };
  connections.set(conversation, connection);
  return connection;
}

/** Streams what `ask` brings into message `id`. */
function write(conversation: string, id: string, ask: Ask): Promise<void> {
  focusComposer();
  return writeOn(connect(conversation), conversation, id, ask);
}

type Ask = (signal: AbortSignal) => AsyncIterable<StreamEvent>;

async function writeOn(
  connection: Connection,
  conversation: string,
  id: string,
  ask: Ask,
): Promise<void> {
  const { change, setLive } = useChat.getState();
  const { signal } = connection.controller;
  setLive(conversation, id);
  const patch = (part: Partial<Message>) =>
    change(conversation, (thread) => update(thread, id, part));
  try {
    const events = observe(ask(signal), conversation, id, connection);
    const status = await receive(events, (make) =>
      change(conversation, (thread) => {
        const written = thread.byId[id];
        return written ? update(thread, id, make(written)) : thread;
      }),
    );
    patch({ status });
  } catch (reason) {
    const begun = Boolean(getThread(conversation).byId[id]?.serverId);
    if (signal.aborted) patch({ status: "stopped" });
    else if (!begun && isHolding(reason)) patch({ status: "waiting" });
    else {
      patch({ status: "failed", ...(await failureOf(reason, conversation, id)) });
      if (reason instanceof ApiError && reason.status === 401) reportError(reason);
    }
  } finally {
    if (connections.get(conversation) === connection) connections.delete(conversation);
    setLive(conversation, null);
  }
  void refreshConversations();
}

/** Whether what a request met is no answer to it, so that it can be sent once more. */
function isHolding(reason: unknown): boolean {
  if (reason instanceof OfflineError) return true;
  return reason instanceof ApiError && reason.status === 503 && reason.code === "not_ready";
}

async function failureOf(
  reason: unknown,
  conversation: string,
  id: string,
): Promise<Pick<Message, "error">> {
  const { byId } = getThread(conversation);
  const question = byId[byId[id]?.parentId ?? ""];
  const long = reason instanceof ApiError && reason.code === "context_length_exceeded";
  if (!long || !question) return { error: sentenceOf(reason) };
  const asked = {
    text: question.content,
    system: systemOf(conversation),
    model: byId[id]?.model ?? null,
    maxTokens: useSettings.getState().sampling.max_tokens,
  };
  return { error: await tooLong(asked, reason) };
}

/** Takes a message off the server. */
export function drop(conversation: string, serverId: string): Promise<void> {
  return deletePatiently(
    `${conversationPath(conversation)}/messages/${encodeURIComponent(serverId)}`,
  );
}

/** By the first event the server has stored the question, and says under which id. */
async function* observe(
  events: AsyncIterable<StreamEvent>,
  conversation: string,
  answerId: string,
  connection: Connection,
): AsyncGenerator<StreamEvent> {
  let first = true;
  for await (const event of events) {
    const unnamed = isTemporary(conversation);
    if (first && !unnamed) void refreshConversations();
    first = false;
    if (event.type === "id") {
      connection.answer = event.id;
      if (connection.stopping) end(connection);
      // What is not stored has no name to be called by.
      if (unnamed) continue;
    }
    if (event.type === "id" && event.question) {
      const stored = event.question;
      useChat.getState().change(conversation, (thread) => {
        const question = thread.byId[answerId]?.parentId;
        return question ? nameQuestion(thread, question, stored) : thread;
      });
    }
    yield event;
  }
}
