import { useWords } from "@/i18n";
import type { LooseAnswer } from "@/instrument/use-answer";
import { PaneAnswer } from "./pane-answer";

/** A question as it stands in a conversation. */
export const BUBBLE =
  "ml-auto max-w-[85%] whitespace-pre-wrap break-words rounded-3xl rounded-br-lg bg-bubble px-4.5 py-2.5";

interface BlindQuestionProps {
  question: string;
  answers: readonly [LooseAnswer, LooseAnswer];
}

/** A question with two answers to it, without the names of who gave them. */
export function BlindQuestion({ question, answers }: BlindQuestionProps) {
  const t = useWords();
  return (
    <>
      <p dir="auto" className={BUBBLE}>
        {question}
      </p>
      <div className="grid gap-4 md:grid-cols-2">
        {answers.map((answer, i) => (
          <section
            // biome-ignore lint/suspicious/noArrayIndexKey: there are two sides
            key={i}
            aria-label={i === 0 ? t.sideA : t.sideB}
            aria-busy={answer.running}
            className="glass min-h-32 min-w-0 rounded-2xl px-4 py-3"
          >
            <h2 className="mb-2 font-semibold text-sm">{i === 0 ? t.sideA : t.sideB}</h2>
            <PaneAnswer answer={answer} />
          </section>
        ))}
      </div>
    </>
  );
}
