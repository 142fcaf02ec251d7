import { type EventSourceMessage, EventSourceParserStream } from "eventsource-parser/stream";
import { request } from "./client";
import type { ChatRequest, Sources, TokenLogprob, Usage } from "./types";

export type StreamEvent =
  | { type: "text"; text: string; tokens: TokenLogprob[] }
  | { type: "id"; id: string }
  | { type: "sources"; sources: Sources }
  | { type: "finish"; reason: string }
  | { type: "usage"; usage: Usage }
  | { type: "error"; message: string }
  | { type: "done" };

interface Chunk {
  id?: string;
  choices?: {
    delta?: { content?: string | null };
    text?: string;
    finish_reason?: string | null;
    logprobs?: { content?: TokenLogprob[] | null } | null;
  }[];
  usage?: Usage | null;
  error?: { message?: string };
}

/** What one server-sent event says; an OpenAI chunk can say several things at once. */
export function readEvent(event: EventSourceMessage): StreamEvent[] {
  if (event.data === "[DONE]") return [{ type: "done" }];
  const body = JSON.parse(event.data) as unknown;
  if (event.event === "sources") return [{ type: "sources", sources: body as Sources }];
  const chunk = body as Chunk;
  if (event.event === "error" || chunk.error) {
    return [{ type: "error", message: chunk.error?.message ?? "The server stopped answering." }];
  }
  const said: StreamEvent[] = chunk.id ? [{ type: "id", id: chunk.id }] : [];
  const choice = chunk.choices?.[0];
  const text = choice?.delta?.content ?? choice?.text ?? "";
  const tokens = choice?.logprobs?.content ?? [];
  if (text || tokens.length > 0) said.push({ type: "text", text, tokens });
  if (choice?.finish_reason) said.push({ type: "finish", reason: choice.finish_reason });
  if (chunk.usage) said.push({ type: "usage", usage: chunk.usage });
  return said;
}

/**
 * Asks for an answer and yields what arrives.
 *
 * A stream that ends without `done` was cut off. Aborting the signal closes the connection, on which
 * the server stops decoding.
 */
export async function* streamChat(
  body: ChatRequest,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent> {
  yield* streamEvents("/v1/chat/stream", body, signal);
}

/** Server-sent events of a POST, as {@link StreamEvent}s. */
export async function* streamEvents(
  path: string,
  body: object,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent> {
  const response = await request(path, { method: "POST", body: JSON.stringify(body), signal });
  if (!response.body) return;
  const events = response.body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array<ArrayBuffer>>)
    .pipeThrough(new EventSourceParserStream());
  const reader = events.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const said of readEvent(value)) {
        yield said;
        if (said.type === "done") return;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
