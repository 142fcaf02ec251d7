import type { ChatRequest } from "@/api/types";
import type { Candidate } from "@/api/votes";
import { requestSettings } from "@/chat/request";
import type { Sampling } from "@/settings/store";

/** One of two that answer the same prompt. */
export interface Side {
  /** Null is the model that the header shows. */
  model: string | null;
  temperature: number;
}

type Turn = ChatRequest["messages"][number];

/** What both sides read: the system prompt, what was said before, and the new question. */
export function promptOf(system: string, before: readonly Turn[], text: string): Turn[] {
  return [
    ...(system.trim() ? [{ role: "system" as const, content: system.trim() }] : []),
    ...before,
    { role: "user", content: text },
  ];
}

/** The settings of a side's request; both sides have the same seed. */
export function requestOf(side: Side, sampling: Partial<Sampling>, shown: string | null) {
  const seed = sampling.seed ?? 1;
  const own = { ...sampling, temperature: side.temperature, seed };
  return requestSettings({
    model: side.model ?? shown,
    sampling: own,
    search: "off",
    tokenView: false,
  });
}

export function candidateOf(
  side: Side,
  sampling: Partial<Sampling>,
  shown: string | null,
  content: string,
): Candidate {
  const request = requestOf(side, sampling, shown);
  const { temperature, top_p, top_k, max_tokens, min_p, repetition_penalty, seed } = request;
  const settings = { temperature, top_p, top_k, max_tokens, min_p, repetition_penalty, seed };
  return {
    model: side.model ?? shown ?? "",
    settings: settings as Candidate["settings"],
    content,
  };
}

/** A side in words, once its name may be said. */
export function nameOf({ model, settings }: Candidate): string {
  return `${model} (T ${settings.temperature})`;
}
