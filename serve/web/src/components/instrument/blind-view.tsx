import { Play, Square } from "lucide-react";
import { useState } from "react";
import { toast } from "sonner";
import type { ChatRequest } from "@/api/types";
import { type Choice, sendVote } from "@/api/votes";
import { sentenceOf } from "@/chat/errors";
import { Answer } from "@/components/chat/answer-text";
import { useShownModel } from "@/components/shell/model-picker";
import { Button } from "@/components/ui/button";
import { Textarea } from "@/components/ui/textarea";
import { useWords } from "@/i18n";
import { candidateOf, nameOf, promptOf, requestOf, type Side } from "@/instrument/contenders";
import { useAnswer } from "@/instrument/use-answer";
import { useSettings } from "@/settings/store";

const PATH = "/v1/chat/stream";

type Turn = ChatRequest["messages"][number];

/**
 * Two sides answer without their names; the better answer goes on, so that every turn's vote is about one prompt.
 *
 * Which side stands on the left is drawn anew for each turn.
 */
export function BlindView({ sides }: { sides: [Side, Side] }) {
  const t = useWords();
  const { sampling, system } = useSettings();
  const model = useShownModel();
  const [draft, setDraft] = useState("");
  const [asked, setAsked] = useState<string | null>(null);
  const [turns, setTurns] = useState<Turn[]>([]);
  const [order, setOrder] = useState<[Side, Side]>(sides);
  const [revealed, setRevealed] = useState<string | null>(null);
  const a = useAnswer(PATH);
  const b = useAnswer(PATH);
  const running = a.answer.running || b.answer.running;
  const complete = asked !== null && !running && Boolean(a.answer.content && b.answer.content);
  const open = asked !== null && (running || complete);

  function run() {
    const text = draft.trim();
    if (!text || open) return;
    const drawn: [Side, Side] = Math.random() < 0.5 ? sides : [sides[1], sides[0]];
    const messages = promptOf(system, turns, text);
    setOrder(drawn);
    setAsked(text);
    setDraft("");
    setRevealed(null);
    void a.ask({ ...requestOf(drawn[0], sampling, model), messages });
    void b.ask({ ...requestOf(drawn[1], sampling, model), messages });
  }

  async function vote(choice: Choice) {
    if (asked === null) return;
    const left = candidateOf(order[0], sampling, model, a.answer.content);
    const right = candidateOf(order[1], sampling, model, b.answer.content);
    try {
      await sendVote({ prompt: promptOf(system, turns, asked), a: left, b: right, choice });
    } catch (reason) {
      toast.error(`${t.voteFailed} ${sentenceOf(reason)}`);
      return;
    }
    const better = choice === "b" ? right.content : left.content;
    setTurns([...turns, { role: "user", content: asked }, { role: "assistant", content: better }]);
    setAsked(null);
    setRevealed(t.blindReveal(nameOf(left), nameOf(right)));
    a.clear();
    b.clear();
  }

  function startOver() {
    setTurns([]);
    setAsked(null);
    setRevealed(null);
    a.clear();
    b.clear();
  }

  return (
    <>
      {turns.length > 0 && (
        <div role="log" aria-label={t.thread} className="flex flex-col gap-3">
          {turns.map(({ role, content }, i) => (
            <article
              // biome-ignore lint/suspicious/noArrayIndexKey: turns are only ever added at the end
              key={i}
              dir="auto"
              aria-label={role === "user" ? t.you : t.model}
              className={
                role === "user"
                  ? "ml-auto max-w-[85%] whitespace-pre-wrap break-words rounded-3xl rounded-br-lg bg-bubble px-4.5 py-2.5"
                  : undefined
              }
            >
              {role === "user" ? content : <Answer text={content} />}
            </article>
          ))}
        </div>
      )}
      {asked !== null && (
        <>
          <p
            dir="auto"
            className="ml-auto max-w-[85%] whitespace-pre-wrap break-words rounded-3xl rounded-br-lg bg-bubble px-4.5 py-2.5"
          >
            {asked}
          </p>
          <div className="grid gap-4 md:grid-cols-2">
            {([a, b] as const).map(({ answer }, i) => (
              <section
                // biome-ignore lint/suspicious/noArrayIndexKey: there are two sides
                key={i}
                aria-label={i === 0 ? t.sideA : t.sideB}
                aria-busy={answer.running}
                className="glass min-h-32 min-w-0 rounded-2xl px-4 py-3"
              >
                <h2 className="mb-2 font-semibold text-sm">{i === 0 ? t.sideA : t.sideB}</h2>
                <div className={answer.running ? "live" : undefined}>
                  <Answer text={answer.content} live={answer.running} />
                </div>
                {answer.error && (
                  <p role="alert" className="text-destructive text-sm">
                    {answer.error}
                  </p>
                )}
              </section>
            ))}
          </div>
        </>
      )}
      {complete ? (
        <div className="flex flex-wrap items-center gap-2 text-sm">
          <p className="w-full text-muted-foreground">{t.blindVote}</p>
          <Button variant="secondary" size="sm" onClick={() => void vote("a")}>
            {t.better("A")}
          </Button>
          <Button variant="secondary" size="sm" onClick={() => void vote("tie")}>
            {t.tie}
          </Button>
          <Button variant="secondary" size="sm" onClick={() => void vote("b")}>
            {t.better("B")}
          </Button>
        </div>
      ) : (
        <p role="status" className="text-muted-foreground text-sm">
          {revealed}
        </p>
      )}
      <form
        className="glass flex items-end gap-2 rounded-3xl p-2.5"
        onSubmit={(event) => {
          event.preventDefault();
          run();
        }}
      >
        <Textarea
          aria-label={t.comparePrompt}
          placeholder={t.comparePrompt}
          className="min-h-9 border-0 bg-transparent text-base"
          dir="auto"
          value={draft}
          onChange={(event) => setDraft(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
            event.preventDefault();
            run();
          }}
        />
        {running ? (
          <Button
            className="rounded-full"
            onClick={() => {
              a.stop();
              b.stop();
            }}
          >
            <Square className="size-3.5 fill-current" />
            {t.stop}
          </Button>
        ) : (
          <Button type="submit" className="rounded-full" disabled={open || draft.trim() === ""}>
            <Play />
            <span className="max-xs:sr-only">{t.run}</span>
          </Button>
        )}
      </form>
      {turns.length > 0 && (
        <p className="flex items-center gap-3 text-muted-foreground text-xs">
          {t.blindTurns(turns.length / 2)}
          <Button variant="ghost" size="sm" onClick={startOver}>
            {t.startOver}
          </Button>
        </p>
      )}
    </>
  );
}
