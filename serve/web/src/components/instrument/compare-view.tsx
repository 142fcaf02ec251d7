import { EyeOff } from "lucide-react";
import { useMemo, useState } from "react";
import { toast } from "sonner";
import { type Choice, sendVote, takeBack } from "@/api/votes";
import { sentenceOf } from "@/chat/errors";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import type { Side } from "@/instrument/contenders";
import { useContest } from "@/instrument/use-contest";
import { compareWords } from "@/instrument/words-diff";
import { BlindView } from "./blind-view";
import { ComparePane } from "./compare-pane";
import { PromptForm } from "./prompt-form";
import { ViewHeading } from "./view-heading";
import { VoteBar } from "./vote-bar";

/** One prompt, answered by two checkpoints or under two settings at the same time. */
export default function CompareView() {
  const t = useWords();
  const [prompt, setPrompt] = useState("");
  const [asked, setAsked] = useState("");
  const [blind, setBlind] = useState(false);
  const [voted, setVoted] = useState(false);
  const [sides, setSides] = useState<[Side, Side]>([
    { model: null, temperature: 0 },
    { model: null, temperature: 1 },
  ]);
  const contest = useContest();
  const { running } = contest;
  const [a, b] = contest.answers;
  const complete = asked !== "" && contest.complete;
  const difference = useMemo(
    () => (complete ? compareWords(a.content, b.content) : null),
    [complete, a.content, b.content],
  );
  const candidates = contest.candidates(sides);

  function run() {
    const text = prompt.trim();
    if (!text || running) return;
    setAsked(text);
    setVoted(false);
    contest.ask(sides, contest.prompt([], text));
  }

  async function vote(choice: Choice) {
    const [left, right] = candidates;
    setVoted(true);
    try {
      const kept = await sendVote({
        prompt: contest.prompt([], asked),
        a: left,
        b: right,
        choice,
      });
      toast.success(t.voteThanks, {
        action: {
          label: t.undo,
          onClick: () => takeBack(kept).catch((reason) => toast.error(sentenceOf(reason))),
        },
      });
    } catch (reason) {
      setVoted(false);
      toast.error(`${t.voteFailed} ${sentenceOf(reason)}`);
    }
  }

  return (
    <div className="scroll-quiet h-full overflow-y-auto pt-16">
      <div className="mx-auto flex max-w-6xl flex-col gap-5 p-4 sm:p-6">
        <div className="flex items-start gap-3">
          <ViewHeading title={t.compare} note={blind ? t.blindNote : t.compareNote} />
          <Button
            variant={blind ? "default" : "outline"}
            size="sm"
            className="ml-auto"
            aria-pressed={blind}
            onClick={() => setBlind(!blind)}
          >
            <EyeOff />
            {t.blind}
          </Button>
        </div>
        {blind ? (
          <BlindView sides={sides} />
        ) : (
          <>
            <PromptForm
              value={prompt}
              running={running}
              onChange={setPrompt}
              onRun={run}
              onStop={contest.stop}
            />
            <div className="grid gap-4 md:grid-cols-2">
              <ComparePane
                name={t.sideA}
                side={sides[0]}
                answer={a}
                marked={difference?.[0]}
                onChange={(side) => setSides([side, sides[1]])}
              />
              <ComparePane
                name={t.sideB}
                side={sides[1]}
                answer={b}
                marked={difference?.[1]}
                onChange={(side) => setSides([sides[0], side])}
              />
            </div>
            <VoteBar
              open={complete && !voted}
              identical={a.content === b.content}
              sides={candidates}
              onVote={(choice) => void vote(choice)}
            />
          </>
        )}
      </div>
    </div>
  );
}
