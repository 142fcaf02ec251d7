import { ApiError, OfflineError, request } from "@/api/client";
import { refreshConversations } from "@/api/queries";
import { followAnswer, type StreamEvent, streamAnswer } from "@/api/stream";
import type { Measured } from "@/api/tokens";
import type { ChatRequest } from "@/api/types";
import { focusComposer } from "@/lib/focus";
import { useSettings } from "@/settings/store";
import { systemOf } from "./choices";
import { failureOf, reportError } from "./errors";
import { receive } from "./receive";
import { getThread, useChat } from "./store";
import { isTemporary } from "./temporary";
import {
  append,
  type Message,
  nameQuestion,
  newMessage,
  shownAs,
  type Thread,
  update,
} from "./tree";

/** An answer on its way to the page. */
interface Connection {
  controller: AbortController;
  /** The answer's id, as soon as it is known; without it the server cannot be told to stop. */
  answer?: string;
  stopping?: boolean;
}

type Ask = (signal: AbortSignal) => AsyncIterable<StreamEvent>;

/** By conversation: at most one answer is on its way in each. */
const connections = new Map<string, Connection>();

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
    const parentId = first.question ? shownAs(thread, first.question) : newestQuestion(thread);
    if (!parentId) return false;
    const id = shownAs(thread, serverId) ?? serverId;
    // Of a very long answer the server has no beginning to stream; the whole comes when it is stored.
    const content = first.question ? (first.prefix ?? "") : "… ";
    const message = {
      ...newMessage({
        role: "assistant",
        parentId,
        content,
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

const newestQuestion = ({ order, byId }: Thread) =>
  order.findLast((id) => byId[id]?.role === "user");

async function* chain(
  first: StreamEvent[],
  rest: AsyncIterable<StreamEvent>,
): AsyncGenerator<StreamEvent> {
  yield* first;
  yield* rest;
}

function connect(conversation: string): Connection {
  const connection = { controller: new AbortController() };
  connections.set(conversation, connection);
  return connection;
}

/** Streams the answer to a request into message `id`. */
export function write(conversation: string, id: string, body: ChatRequest): Promise<void> {
  focusComposer();
  return writeOn(connect(conversation), conversation, id, (signal) => patiently(body, signal));
}

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
      const error = await failureOf(reason, askedIn(conversation, id));
      patch({ status: "failed", error });
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

/** What has to fit into the window for message `id` to be written. */
function askedIn(conversation: string, id: string): Measured | undefined {
  const { byId } = getThread(conversation);
  const question = byId[byId[id]?.parentId ?? ""];
  return (
    question && {
      text: question.content,
      system: systemOf(conversation),
      model: byId[id]?.model ?? null,
      maxTokens: useSettings.getState().sampling.max_tokens,
    }
  );
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
