import type { StreamEvent } from "@/api/stream";
import type { StoredTiming } from "@/api/types";
import { batchByFrame } from "./frames";
import type { Message, Timing } from "./tree";

/** The part of a message that a stream writes. */
export type Written = Pick<
  Message,
  | "content"
  | "tokens"
  | "serverId"
  | "sources"
  | "unsearched"
  | "why"
  | "finishReason"
  | "usage"
  | "timing"
>;

/** How fast the server says that an answer was written; nobody else measures it. */
export function timingOf(timing: StoredTiming | null | undefined): Timing | undefined {
  if (!timing) return undefined;
  return { firstToken: timing.first_token_s, tokensPerSecond: timing.tokens_per_s ?? null };
}

/** Answers of fewer tokens say nothing of a speed. */
const MEASURED = 8;

/** How fast an answer was written, where it is long enough to tell. */
export function speedOf({ timing, usage }: Pick<Message, "timing" | "usage">): Timing | undefined {
  return (usage?.completion_tokens ?? 0) < MEASURED ? undefined : timing;
}

/**
 * Writes a stream into a message, at most once an animation frame.
 *
 * `patch` is given functions from the message as it is to what changes. Resolves to how the stream
 * ended; rejects with what the server or the network said.
 */
export async function receive(
  events: AsyncIterable<StreamEvent>,
  patch: (make: (message: Written) => Partial<Written>) => void,
): Promise<"done" | "stopped" | "dropped"> {
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
      if (event.type === "done") return "done";
      if (event.type === "lost") break;
      if (event.type === "error" && event.code === "cancelled") return "stopped";
      if (event.type === "text") {
        texts.add(event);
      } else if (event.type === "id") {
        if (named) continue;
        named = true;
        patch(() => ({ serverId: event.id }));
      } else if (event.type === "sources") patch(() => ({ sources: event.sources }));
      else if (event.type === "unsearched")
        patch(() => ({ unsearched: event.reason, why: event.why }));
      else if (event.type === "finish") patch(() => ({ finishReason: event.reason }));
      else if (event.type === "usage") {
        patch(() => ({ usage: event.usage, timing: timingOf(event.timing) }));
      } else throw new Error(event.message);
    }
    return "dropped";
  } finally {
    texts.flush();
  }
}
