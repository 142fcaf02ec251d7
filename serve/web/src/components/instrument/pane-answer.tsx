import { Answer } from "@/components/chat/answer-text";
import type { LooseAnswer } from "@/instrument/use-answer";

/** One side's answer as far as it has come, or why there is none. */
export function PaneAnswer({ answer }: { answer: LooseAnswer }) {
  return (
    <>
      <div className={answer.running ? "live" : undefined}>
        <Answer text={answer.content} live={answer.running} />
      </div>
      {answer.error && (
        <p role="alert" className="text-destructive text-sm">
          {answer.error}
        </p>
      )}
    </>
  );
}
