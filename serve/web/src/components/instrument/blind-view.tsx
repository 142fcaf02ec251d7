import { useState } from "react";
import { toast } from "sonner";
import type { ChatRequest } from "@/api/types";
import { type Choice, sendVote } from "@/api/votes";
import { sentenceOf } from "@/chat/errors";
import { Answer } from "@/components/chat/answer-text";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { nameOf, type Side } from "@/instrument/contenders";
import { useContest } from "@/instrument/use-contest";
import { BlindQuestion, BUBBLE } from "./blind-question";
import { PromptForm } from "./prompt-form";
import { ShadowPairs } from "./shadow-pairs";
import { VoteButtons } from "./vote-bar";

/**
 * Two sides answer without their names; the better answer goes on, so that every turn's vote is about one prompt.
 *
 * Which side stands on the left is drawn anew for each turn.
 */
export function BlindView({ sides }: { sides: [Side, Side] }) {
  const t = useWords();
  const [draft, setDraft] = useState("");
  const [asked, setAsked] = useState<string | null>(null);
  const [turns, setTurns] = useState<ChatRequest["messages"]>([]);
  const [order, setOrder] = useState<[Side, Side]>(sides);
  const [revealed, setRevealed] = useState<string | null>(null);
  const contest = useContest();
  const { running } = contest;
  const complete = asked !== null && contest.complete;
  const open = asked !== null && (running || complete);

  function run() {
    const text = draft.trim();
    if (!text || open) return;
    const drawn: [Side, Side] = Math.random() < 0.5 ? sides : [sides[1], sides[0]];
    setOrder(drawn);
    setAsked(text);
    setDraft("");
    setRevealed(null);
    contest.ask(drawn, contest.prompt(turns, text));
  }

  async function vote(choice: Choice) {
    if (asked === null) return;
    const [left, right] = contest.candidates(order);
    try {
      await sendVote({ prompt: contest.prompt(turns, asked), a: left, b: right, choice });
    } catch (reason) {
      toast.error(`${t.voteFailed} ${sentenceOf(reason)}`);
      return;
    }
    const better = choice === "b" ? right.content : left.content;
    setTurns([...turns, { role: "user", content: asked }, { role: "assistant", content: better }]);
    setAsked(null);
    setRevealed(t.blindReveal(nameOf(left), nameOf(right)));
    contest.clear();
  }

  function startOver() {
    setTurns([]);
    setAsked(null);
    setRevealed(null);
    contest.clear();
  }

  return (
    <>
      <ShadowPairs />
      {turns.length > 0 && (
        <div role="log" aria-label={t.thread} className="flex flex-col gap-3">
          {turns.map(({ role, content }, i) => (
            <article
              // biome-ignore lint/suspicious/noArrayIndexKey: turns are only ever added at the end
              key={i}
              dir="auto"
              aria-label={role === "user" ? t.you : t.model}
              className={role === "user" ? BUBBLE : undefined}
            >
              {role === "user" ? content : <Answer text={content} />}
            </article>
          ))}
        </div>
      )}
      {asked !== null && <BlindQuestion question={asked} answers={contest.answers} />}
      {complete ? (
        <div className="flex flex-wrap items-center gap-2 text-muted-foreground text-sm">
          <VoteButtons note={t.blindVote} onVote={(choice) => void vote(choice)} />
        </div>
      ) : (
        <p role="status" className="text-muted-foreground text-sm">
          {revealed}
        </p>
      )}
      <PromptForm
        value={draft}
        running={running}
        disabled={open}
        onChange={setDraft}
        onRun={run}
        onStop={contest.stop}
      />
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
