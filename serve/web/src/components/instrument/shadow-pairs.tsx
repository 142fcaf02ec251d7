import { useState } from "react";
import { toast } from "sonner";
import {
  refreshShadowPairs,
  type ShadowPair,
  skipShadowPair,
  useShadowPairs,
  voteOnShadowPair,
} from "@/api/shadow-pairs";
import type { Choice } from "@/api/votes";
import { sentenceOf } from "@/chat/errors";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { BlindQuestion } from "./blind-question";
import { VoteButtons } from "./vote-bar";

/** The vote's button, which had the focus, is gone. */
const focus = (button: HTMLButtonElement | null) => button?.focus();

/**
 * The reader's own questions that a shadow has answered as well, for a blind vote on one at a time.
 *
 * A pair stays until the next one is asked for: none slips under a click that was meant for another.
 */
export function ShadowPairs() {
  const t = useWords();
  const { data: pairs = [] } = useShadowPairs();
  const [pair, setPair] = useState<ShadowPair | null>(null);
  const [busy, setBusy] = useState(false);
  const [revealed, setRevealed] = useState<string | null>(null);
  const [newest] = pairs;
  if (!pair && newest) setPair(newest);
  if (!pair) return null;

  async function next() {
    await refreshShadowPairs();
    setPair(null);
    setRevealed(null);
  }

  async function attempt(work: () => Promise<void>) {
    setBusy(true);
    try {
      await work();
    } catch (reason) {
      toast.error(`${t.voteFailed} ${sentenceOf(reason)}`);
      await next(); // it may be gone: voted on in another tab, or deleted with its conversation
    }
    setBusy(false);
  }

  const vote = (choice: Choice) =>
    attempt(async () => {
      const { a, b } = await voteOnShadowPair(pair.id, choice);
      setRevealed(t.blindReveal(a.model, b.model));
    });
  const skip = () => attempt(() => skipShadowPair(pair.id).then(next));

  return (
    <section aria-label={t.shadowPairs} className="flex flex-col gap-3 border-b pb-5">
      <h2 className="font-semibold text-sm">{t.shadowPairs}</h2>
      <p className="text-muted-foreground text-sm">{t.shadowNote(pairs.length)}</p>
      <BlindQuestion
        question={pair.prompt.at(-1)?.content ?? ""}
        answers={[
          { content: pair.a, running: false },
          { content: pair.b, running: false },
        ]}
      />
      <fieldset
        disabled={busy}
        className="flex flex-wrap items-center gap-2 text-muted-foreground text-sm"
      >
        {revealed === null ? (
          <>
            <VoteButtons note={t.shadowVote} onVote={(choice) => void vote(choice)} />
            <Button variant="ghost" size="sm" onClick={() => void skip()}>
              {t.skip}
            </Button>
          </>
        ) : (
          <>
            <p role="status">{revealed}</p>
            <Button ref={focus} variant="secondary" size="sm" onClick={() => void next()}>
              {t.next}
            </Button>
          </>
        )}
      </fieldset>
    </section>
  );
}
