import { type EventSourceMessage, EventSourceParserStream } from "eventsource-parser/stream";
import { ApiError, noteUnreachable, OfflineError, request } from "./client";
import type { SearchReason, Sources, StoredTiming, TokenLogprob, Usage } from "./types";

export type StreamEvent =
  | { type: "text"; text: string; tokens: TokenLogprob[] }
  /** The answer's id, and in its first event that of its question and how the answer begins. */
  | { type: "id"; id: string; question?: string; prefix?: string }
  | { type: "sources"; sources: Sources }
  | { type: "unsearched"; reason: string; why?: SearchReason | null }
  | { type: "finish"; reason: string }
  | { type: "usage"; usage: Usage; timing?: StoredTiming }
  | { type: "error"; message: string; code: string | null }
  | { type: "lost" }
  | { type: "done" };

interface ChatLogprobs {
  content: TokenLogprob[] | null;
}

/** The older form, of raw completions: parallel lists. */
interface CompletionLogprobs {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (Record<string, number> | null)[];
}

interface Chunk {
  id?: string;
  parent_id?: string | null;
  prefix?: string;
  choices?: {
    delta?: { content?: string | null };
    text?: string;
    finish_reason?: string | null;
    logprobs?: ChatLogprobs | CompletionLogprobs | null;
  }[];
  usage?: Usage | null;
  timing?: StoredTiming;
  error?: { message?: string; code?: string | null };
}

function readLogprobs(logprobs: ChatLogprobs | CompletionLogprobs): TokenLogprob[] {
  if (!("tokens" in logprobs)) return logprobs.content ?? [];
  return logprobs.tokens.map((token, i) => ({
    token,
    logprob: logprobs.token_logprobs[i] ?? 0,
    top_logprobs: Object.entries(logprobs.top_logprobs[i] ?? {})
      .map(([other, logprob]) => ({ token: other, logprob }))
      .sort((a, b) => b.logprob - a.logprob),
  }));
}

/** What one server-sent event says; an OpenAI chunk can say several things at once. */
export function readEvent(event: EventSourceMessage): StreamEvent[] {
  if (event.data === "[DONE]") return [{ type: "done" }];
  const body = JSON.parse(event.data) as unknown;
  if (event.event === "sources") return [{ type: "sources", sources: body as Sources }];
  if (event.event === "search") {
    const { reason, why } = body as Pick<
      Extract<StreamEvent, { type: "unsearched" }>,
      "reason" | "why"
    >;
    return [{ type: "unsearched", reason, why }];
  }
  const chunk = body as Chunk;
  if (event.event === "error" || chunk.error) {
    const { message = "The server stopped answering.", code = null } = chunk.error ?? {};
    return [{ type: "error", message, code }];
  }
  const said: StreamEvent[] = [];
  if (chunk.id) {
    const question = chunk.parent_id ?? undefined;
    said.push({ type: "id", id: chunk.id, question, prefix: chunk.prefix });
  }
  const choice = chunk.choices?.[0];
  const text = choice?.delta?.content ?? choice?.text ?? "";
  const tokens = choice?.logprobs ? readLogprobs(choice.logprobs) : [];
  if (text || tokens.length > 0) said.push({ type: "text", text, tokens });
  if (choice?.finish_reason) said.push({ type: "finish", reason: choice.finish_reason });
  if (chunk.usage) said.push({ type: "usage", usage: chunk.usage, timing: chunk.timing });
  return said;
}

/** How often a broken stream is taken up again, and how long to wait before each try (ms). */
const RESUME_DELAYS = [400, 1_000, 2_000, 4_000];

const wait = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });

/**
 * Asks for an answer at one of the streaming endpoints and yields what arrives.
 *
 * A stream that breaks off is asked for again from its last event on, as long as the server keeps
 * it; without success it ends with `lost`. Aborting the signal closes the connection, on which the
 * server stops decoding; then this throws.
 */
export function streamAnswer(
  path: string,
  body: object,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent> {
  return resumed(signal, (last) => {
    const headers: HeadersInit = last ? { "Last-Event-ID": last } : {};
    return request(path, { method: "POST", body: JSON.stringify(body), headers, signal });
  });
}

/**
 * Like {@link streamAnswer}, for an answer that is being written already: all of its events, or those
 * that the server still has of a very long one.
 */
export function followAnswer(id: string, signal: AbortSignal): AsyncGenerator<StreamEvent> {
  const path = `/v1/chat/stream/${encodeURIComponent(id)}`;
  return resumed(signal, async (last) => {
    const after = last?.slice(last.lastIndexOf(":") + 1) ?? "0";
    try {
      return await request(`${path}?after=${after}`, { signal });
    } catch (reason) {
      if (last || !(reason instanceof ApiError && reason.code === "stream_gone")) throw reason;
      return request(path, { signal });
    }
  });
}

async function* resumed(
  signal: AbortSignal,
  ask: (last: string | undefined) => Promise<Response>,
): AsyncGenerator<StreamEvent> {
  let last: string | undefined;
  for (const delay of [...RESUME_DELAYS, 0]) {
    try {
      for await (const event of connect(await ask(last))) {
        last = event.id ?? last;
        for (const said of readEvent(event)) {
          yield said;
          if (said.type === "done") return;
        }
      }
    } catch (reason) {
      if (signal.aborted || last === undefined) throw reason;
      if (reason instanceof ApiError && reason.status === 404) break;
      if (!(reason instanceof OfflineError)) noteUnreachable();
    }
    if (last === undefined) break;
    await wait(delay, signal);
    signal.throwIfAborted();
  }
  yield { type: "lost" };
}

async function* connect(response: Response): AsyncGenerator<EventSourceMessage> {
  if (!response.body) return;
  const reader = response.body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array<ArrayBuffer>>)
    .pipeThrough(new EventSourceParserStream())
    .getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
