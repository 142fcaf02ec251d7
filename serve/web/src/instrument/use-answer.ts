import { useCallback, useEffect, useRef, useState } from "react";
import { ApiError } from "@/api/client";
import { streamAnswer } from "@/api/stream";
import type { Measured } from "@/api/tokens";
import type { ChatRequest } from "@/api/types";
import { failureOf, reportError } from "@/chat/errors";
import { receive, type Written } from "@/chat/receive";

export interface LooseAnswer extends Written {
  running: boolean;
  error?: string;
}

const nothing: LooseAnswer = { content: "", running: false };

/** What of a chat's request has to fit into the window; a raw completion has no messages. */
function measuredIn({ messages, model, max_tokens }: Partial<ChatRequest>): Measured | undefined {
  const text = messages?.at(-1)?.content;
  if (text === undefined) return undefined;
  const system = messages?.find(({ role }) => role === "system")?.content ?? "";
  return { text, system, model: model ?? null, maxTokens: max_tokens };
}

/** An answer that belongs to no conversation: it is streamed, shown, and not stored. */
export function useAnswer(path: string) {
  const [answer, setAnswer] = useState<LooseAnswer>(nothing);
  const connection = useRef<AbortController>(null);

  const stop = useCallback(() => connection.current?.abort(), []);
  useEffect(() => stop, [stop]);

  const ask = useCallback(
    async (body: object) => {
      stop();
      const controller = new AbortController();
      connection.current = controller;
      const change = (make: (answer: LooseAnswer) => Partial<LooseAnswer>) =>
        setAnswer((before) =>
          connection.current === controller ? { ...before, ...make(before) } : before,
        );
      setAnswer({ ...nothing, running: true });
      try {
        await receive(streamAnswer(path, body, controller.signal), change);
      } catch (reason) {
        if (!controller.signal.aborted) {
          const error = await failureOf(reason, measuredIn(body));
          change(() => ({ error }));
          if (reason instanceof ApiError && reason.status === 401) reportError(reason);
        }
      }
      change(() => ({ running: false }));
    },
    [path, stop],
  );

  const clear = useCallback(() => {
    stop();
    connection.current = null;
    setAnswer(nothing);
  }, [stop]);

  return { answer, ask, stop, clear };
}
