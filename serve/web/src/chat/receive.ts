import type { StreamEvent } from "@/api/stream";
import { batchByFrame } from "./frames";
import type { Message } from "./tree";

/** The part of a message that a stream writes. */
export type Written = Pick<
  Message,
  "content" | "tokens" | "serverId" | "sources" | "unsearched" | "finishReason" | "usage" | "timing"
>;

/**
 * Writes a stream into a message, at most once an animation frame.
 *
 * `patch` is given functions from the message as it is to what changes. Resolves to false when the
 * stream broke off before its end; rejects with what the server or the network said.
 */
export async function receive(
  events: AsyncIterable<StreamEvent>,
  patch: (make: (message: Written) => Partial<Written>) => void,
): Promise<boolean> {
  const started = performance.now();
  let first: number | null = null;
  let pieces = 0;
  let named = false;
  const texts = batchByFrame<Extract<StreamEvent, { type: "text" }>>((items) =>
    patch((message) => ({
      content: message.content + items.map((item) => item.text).join(""),
      tokens: items.some((item) => item.tokens.length > 0)
        ? [...(message.tokens ?? []), ...items.flatMap((item) => item.tokens)]
        : message.tokens,
    })),
  );
  try {
    for await (const event of events) {
      if (event.type === "done") return true;
      if (event.type === "lost" || (event.type === "error" && event.code === "cancelled")) break;
      if (event.type === "text") {
        first ??= performance.now();
        pieces += 1;
        texts.add(event);
      } else if (event.type === "id") {
        if (named) continue;
        named = true;
        patch(() => ({ serverId: event.id }));
      } else if (event.type === "sources") patch(() => ({ sources: event.sources }));
      else if (event.type === "unsearched") patch(() => ({ unsearched: event.reason }));
      else if (event.type === "finish") patch(() => ({ finishReason: event.reason }));
      else if (event.type === "usage") {
        pieces = event.usage.completion_tokens;
        patch(() => ({ usage: event.usage }));
      } else throw new Error(event.message);
    }
    return false;
  } finally {
    texts.flush();
    if (first !== null) {
      const seconds = (performance.now() - first) / 1000;
      const timing = {
        firstToken: (first - started) / 1000,
        tokensPerSecond: pieces > 1 && seconds > 0 ? (pieces - 1) / seconds : null,
      };
      patch(() => ({ timing }));
    }
  }
}
