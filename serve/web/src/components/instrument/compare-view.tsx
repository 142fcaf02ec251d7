import { EyeOff, Play, Square } from "lucide-react";
import { useMemo, useState } from "react";
import { toast } from "sonner";
import { type Candidate, type Choice, sendVote, takeBack } from "@/api/votes";
import { sentenceOf } from "@/chat/errors";
import { useShownModel } from "@/components/shell/model-picker";
import { Button } from "@/components/ui/button";
import { Textarea } from "@/components/ui/textarea";
import { useWords } from "@/i18n";
import { candidateOf, promptOf, requestOf, type Side } from "@/instrument/contenders";
import { useAnswer } from "@/instrument/use-answer";
import { compareWords } from "@/instrument/words-diff";
import { useSettings } from "@/settings/store";
import { BlindView } from "./blind-view";
import { ComparePane } from "./compare-pane";
import { ViewHeading } from "./view-heading";
import { VoteBar } from "./vote-bar";

const PATH = "/v1/chat/stream";

/** One prompt, answered by two checkpoints or under two settings at the same time. */
export default function CompareView() {
  const t = useWords();
  const settings = useSettings();
  const model = useShownModel();
  const [prompt, setPrompt] = useState("");
  const [asked, setAsked] = useState("");
  const [blind, setBlind] = useState(false);
  const [voted, setVoted] = useState(false);
  const [sides, setSides] = useState<[Side, Side]>([
    { model: null, temperature: 0 },
    { model: null, temperature: 1 },
  ]);
  const a = useAnswer(PATH);
  const b = useAnswer(PATH);
  const running = a.answer.running || b.answer.running;
  const complete = asked !== "" && !running && Boolean(a.answer.content && b.answer.content);
  const difference = useMemo(
    () => (complete ? compareWords(a.answer.content, b.answer.content) : null),
    [complete, a.answer.content, b.answer.content],
  );

  const candidates: [Candidate, Candidate] = [
    candidateOf(sides[0], settings.sampling, model, a.answer.content),
    candidateOf(sides[1], settings.sampling, model, b.answer.content),
  ];

  function run() {
    const text = prompt.trim();
    if (!text || running) return;
    setAsked(text);
    setVoted(false);
    const messages = promptOf(settings.system, [], text);
    void a.ask({ ...requestOf(sides[0], settings.sampling, model), messages });
    void b.ask({ ...requestOf(sides[1], settings.sampling, model), messages });
  }

  async function vote(choice: Choice) {
    const [left, right] = candidates;
    setVoted(true);
    try {
      const kept = await sendVote({
        prompt: promptOf(settings.system, [], asked),
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
                value={prompt}
                onChange={(event) => setPrompt(event.target.value)}
                onKeyDown={(event) => {
                  if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing)
                    return;
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
                <Button type="submit" className="rounded-full" disabled={prompt.trim() === ""}>
                  <Play />
                  <span className="max-xs:sr-only">{t.run}</span>
                </Button>
              )}
            </form>
            <div className="grid gap-4 md:grid-cols-2">
              <ComparePane
                name={t.sideA}
                side={sides[0]}
                answer={a.answer}
                marked={difference?.[0]}
                onChange={(side) => setSides([side, sides[1]])}
              />
              <ComparePane
                name={t.sideB}
                side={sides[1]}
                answer={b.answer}
                marked={difference?.[1]}
                onChange={(side) => setSides([sides[0], side])}
              />
            </div>
            <VoteBar
              open={complete && !voted}
              identical={a.answer.content === b.answer.content}
              sides={candidates}
              onVote={(choice) => void vote(choice)}
            />
          </>
        )}
      </div>
    </div>
  );
}
