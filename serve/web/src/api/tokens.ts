import { requestJson } from "./client";
import type { ChatRequest } from "./types";

/** Whether a message fits into the window, in tokens, as the server counts them. */
export interface PromptSize {
  /** Of the message's text alone. */
  message_tokens: number;
  /** Of the message with the system prompt, in the model's template. */
  prompt_tokens: number;
  /** For a prompt, beside the answer. */
  room: number;
  /** Kept for the answer. */
  answer_tokens: number;
  context_length: number;
  fits: boolean;
}

export interface Measured {
  text: string;
  system: string;
  model: string | null;
  maxTokens: number | undefined;
}

/** Counts the tokens of a message; nothing is stored. */
export function measure(asked: Measured, signal?: AbortSignal): Promise<PromptSize> {
  const { text, system, model, maxTokens } = asked;
  const body: ChatRequest = {
    ...(model ? { model } : {}),
    ...(maxTokens ? { max_tokens: maxTokens } : {}),
    messages: [
      ...(system ? [{ role: "system" as const, content: system }] : []),
      { role: "user", content: text },
    ],
  };
  const init = { method: "POST", body: JSON.stringify(body), signal };
  return requestJson<PromptSize>("/v1/chat/tokens", init);
}
