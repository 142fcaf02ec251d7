import type { ChatRequest } from "@/api/types";
import type { Candidate } from "@/api/votes";
import { useShownModel } from "@/components/shell/model-picker";
import { useSettings } from "@/settings/store";
import { candidateOf, promptOf, requestOf, type Side } from "./contenders";
import { useAnswer } from "./use-answer";

const PATH = "/v1/chat/stream";

/** Two answers to the same prompt, under the reader's settings but for what the two sides differ in. */
export function useContest() {
  const { sampling, system } = useSettings();
  const model = useShownModel();
  const a = useAnswer(PATH);
  const b = useAnswer(PATH);
  const answers = [a.answer, b.answer] as const;
  const running = answers.some((answer) => answer.running);
  return {
    answers,
    running,
    /** Both sides have answered. */
    complete: !running && answers.every((answer) => answer.content !== ""),
    prompt: (before: ChatRequest["messages"], text: string) => promptOf(system, before, text),
    candidates: ([left, right]: [Side, Side]): [Candidate, Candidate] => [
      candidateOf(left, sampling, model, a.answer.content),
      candidateOf(right, sampling, model, b.answer.content),
    ],
    ask: ([left, right]: [Side, Side], messages: ChatRequest["messages"]) => {
      void a.ask({ ...requestOf(left, sampling, model), messages });
      void b.ask({ ...requestOf(right, sampling, model), messages });
    },
    stop: () => {
      a.stop();
      b.stop();
    },
    clear: () => {
      a.clear();
      b.clear();
    },
  };
}
