import { toast } from "sonner";
import { ApiError } from "@/api/client";
import { deletePatiently } from "@/api/delete";
import { conversationPath, queryClient, refreshConversations, servedModel } from "@/api/queries";
import { type StreamEvent, streamAnswer } from "@/api/stream";
import type { ChatRequest, Health } from "@/api/types";
import { words } from "@/i18n";
import { focusComposer } from "@/lib/focus";
import { useSettings } from "@/settings/store";
import { reportError, sentenceOf } from "./errors";
import { receive } from "./receive";
import { placeOf, requestSettings, type SearchChoice } from "./request";
import { getThread, useChat } from "./store";
import { type Beginning, givenToken } from "./tokens";
import { append, choose, type Message, nameQuestion, pathOf, update } from "./tree";

/** What of an answer differs from what the settings say. */
interface Override {
  search?: SearchChoice;
  model?: string | null;
  beginning?: Beginning;
}

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
  override: Pick<Override, "search"> = {},
): Promise<void> {
  const question = getThread(conversation).byId[answerId]?.parentId;
  return question ? answer(conversation, question, override) : Promise.resolve();
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
  await write(conversation, answerId, body);
  const { serverId } = getThread(conversation).byId[answerId] ?? {};
  if (old.serverId && serverId !== old.serverId) await drop(conversation, old.serverId);
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

/** Closes the connection, on which the server stops decoding; what has come is kept. */
export function stop(conversation: string): void {
  connections.get(conversation)?.abort();
}

export function showVersion(conversation: string, id: string): void {
  useChat.getState().change(conversation, (thread) => choose(thread, id));
}

function ask(conversation: string, parentId: string | null, text: string): Promise<void> {
  const system = (parentId === null && useSettings.getState().system.trim()) || undefined;
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
    model: model ?? servedModel(settings.model),
    search: searches === false ? "off" : (search ?? settings.search),
  });
  const thread = getThread(conversation);
  const place = placeOf(thread, question, settings.system, beginning?.content);
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
  const body = requestFor(conversation, question, override);
  const { beginning } = override;
  const message = newMessage({
    role: "assistant",
    parentId: questionId,
    content: beginning?.content ?? "",
    status: "streaming",
  });
  const tokens = beginning && tokensOf(beginning, body);
  useChat
    .getState()
    .change(conversation, (thread) =>
      append(thread, { ...message, tokens, model: body.model ?? null }),
    );
  await write(conversation, message.id, body);
}

/** Streams what the request brings into message `id`. */
async function write(conversation: string, id: string, body: ChatRequest): Promise<void> {
  focusComposer();
  const { change, setLive } = useChat.getState();
  const controller = new AbortController();
  connections.set(conversation, controller);
  setLive(conversation, id);
  const patch = (part: Partial<Message>) =>
    change(conversation, (thread) => update(thread, id, part));
  try {
    const events = observe(patiently(body, controller.signal), conversation, id);
    const ended = await receive(events, (make) =>
      change(conversation, (thread) => {
        const written = thread.byId[id];
        return written ? update(thread, id, make(written)) : thread;
      }),
    );
    patch({ status: ended ? "done" : "dropped" });
    if (!ended) toast.error(words().connectionLost);
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
  void refreshConversations();
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
): AsyncGenerator<StreamEvent> {
  let first = true;
  for await (const event of events) {
    if (first) void refreshConversations();
    first = false;
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
