import { ApiError } from "@/api/client";
import { queryClient } from "@/api/queries";
import { type StreamEvent, streamAnswer } from "@/api/stream";
import type { ChatRequest, Health } from "@/api/types";
import { useSettings } from "@/settings/store";
import { reportError, sentenceOf } from "./errors";
import { receive } from "./receive";
import { requestSettings, type SearchChoice } from "./request";
import { getThread, useChat } from "./store";
import { ancestry, append, choose, type Message, pathOf, update } from "./tree";

const connections = new Map<string, AbortController>();

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
  override: { search?: SearchChoice } = {},
): Promise<void> {
  const question = getThread(conversation).byId[answerId]?.parentId;
  return question ? answer(conversation, question, override) : Promise.resolve();
}

/** Closes the connection, on which the server stops decoding; what has come is kept. */
export function stop(conversation: string): void {
  connections.get(conversation)?.abort();
}

export function showVersion(conversation: string, id: string): void {
  useChat.getState().change(conversation, (thread) => choose(thread, id));
}

function ask(conversation: string, parentId: string | null, text: string): Promise<void> {
  const question = newMessage({ role: "user", parentId, content: text, status: "done" });
  useChat.getState().change(conversation, (thread) => append(thread, question));
  return answer(conversation, question.id);
}

function newMessage(given: Pick<Message, "role" | "parentId" | "content" | "status">): Message {
  return { id: crypto.randomUUID(), createdAt: new Date().toISOString(), ...given };
}

/** What the server needs beyond what it has: the question, and which answer it follows. */
function buildRequest(
  conversation: string,
  question: Message,
  override: { search?: SearchChoice },
): ChatRequest {
  const settings = useSettings.getState();
  const health = queryClient.getQueryData<Health>(["health"]);
  const search = health?.search?.enabled ? settings.search : "off";
  const messages: ChatRequest["messages"] = [];
  const system = settings.system.trim();
  if (system && question.parentId === null) messages.push({ role: "system", content: system });
  messages.push({ role: "user", content: question.content });
  return {
    ...requestSettings({ ...settings, search, ...override }),
    messages,
    session_id: conversation,
    parent_id: newestStored(conversation, question),
  };
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

/** An answer that failed was not stored; what follows it hangs on the one before. */
function newestStored(conversation: string, question: Message): string | null {
  const before = ancestry(getThread(conversation), question.parentId);
  const answer = before.findLast((message) => message.role === "assistant" && message.serverId);
  return answer?.serverId ?? null;
}

async function answer(
  conversation: string,
  questionId: string,
  override: { search?: SearchChoice } = {},
): Promise<void> {
  const { change, setLive } = useChat.getState();
  const question = getThread(conversation).byId[questionId];
  if (!question || connections.has(conversation)) return;
  const body = buildRequest(conversation, question, override);
  const message = newMessage({
    role: "assistant",
    parentId: questionId,
    content: "",
    status: "streaming",
  });
  const { id } = message;
  change(conversation, (thread) => append(thread, { ...message, model: body.model ?? null }));
  setLive(conversation, id);

  const controller = new AbortController();
  connections.set(conversation, controller);
  const patch = (part: Partial<Message>) =>
    change(conversation, (thread) => update(thread, id, part));
  try {
    const events = announce(patiently(body, controller.signal), refreshLists);
    const ended = await receive(events, (make) =>
      change(conversation, (thread) => {
        const written = thread.byId[id];
        return written ? update(thread, id, make(written)) : thread;
      }),
    );
    patch({ status: ended ? "done" : "dropped" });
  } catch (reason) {
    if (controller.signal.aborted) patch({ status: "stopped" });
    else {
      patch({ status: "failed", error: sentenceOf(reason) });
      reportError(reason);
    }
  } finally {
    connections.delete(conversation);
    setLive(conversation, null);
  }
  refreshLists();
}

function refreshLists(): void {
  void queryClient.invalidateQueries({ queryKey: ["conversations"] });
}

/** Calls `then` at the first event: by then the server has stored the question. */
async function* announce<T>(events: AsyncIterable<T>, then: () => void): AsyncGenerator<T> {
  let first = true;
  for await (const event of events) {
    if (first) then();
    first = false;
    yield event;
  }
}
