import { useEffect, useState } from "react";
import { measure, type PromptSize } from "@/api/tokens";
import { modelOf, systemOf } from "@/chat/choices";
import { useSettings } from "@/settings/store";

/** How long the reader pauses before their text is counted (ms). */
const PAUSE = 400;

/** The tokens of what is being written, as the server counts them; null until it has. */
export function useTokenCount(conversation: string | null, text: string): PromptSize | null {
  const [size, setSize] = useState<PromptSize | null>(null);
  const maxTokens = useSettings((state) => state.sampling.max_tokens);
  const standard = useSettings((state) => state.system);
  const empty = text === "";
  useEffect(() => {
    if (empty) setSize(null);
  }, [empty]);
  useEffect(() => {
    if (text === "") return;
    const controller = new AbortController();
    const timer = setTimeout(() => {
      const system = conversation ? systemOf(conversation) : standard.trim();
      measure({ text, system, model: modelOf(conversation), maxTokens }, controller.signal).then(
        setSize,
        () => !controller.signal.aborted && setSize(null),
      );
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [text, conversation, maxTokens, standard]);
  return size;
}
