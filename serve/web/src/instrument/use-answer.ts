import { useCallback, useEffect, useRef, useState } from "react";
import { streamAnswer } from "@/api/stream";
import { reportError, sentenceOf } from "@/chat/errors";
import { receive, type Written } from "@/chat/receive";

export interface LooseAnswer extends Written {
  running: boolean;
  error?: string;
}

const nothing: LooseAnswer = { content: "", running: false };

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
          change(() => ({ error: sentenceOf(reason) }));
          reportError(reason);
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
