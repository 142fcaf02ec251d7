import type { Candidate, Choice } from "@/api/votes";
import { useVotes } from "@/api/votes";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { tallyOf } from "@/instrument/tally";

interface VoteBarProps {
  /** Both answers are complete and not voted on yet. */
  open: boolean;
  identical: boolean;
  sides: [Candidate, Candidate];
  onVote: (choice: Choice) => void;
}

/** Asks which side is better, and says how the two have fared so far. */
export function VoteBar({ open, identical, sides, onVote }: VoteBarProps) {
  const t = useWords();
  const { data: votes = [] } = useVotes();
  const tally = tallyOf(votes, ...sides);
  return (
    <div className="flex flex-wrap items-center gap-2 text-muted-foreground text-sm">
      {open && (
        <>
          <p className="w-full">{identical ? t.identical : t.differenceNote}</p>
          <Button variant="secondary" size="sm" onClick={() => onVote("a")}>
            {t.better("A")}
          </Button>
          <Button variant="secondary" size="sm" onClick={() => onVote("tie")}>
            {t.tie}
          </Button>
          <Button variant="secondary" size="sm" onClick={() => onVote("b")}>
            {t.better("B")}
          </Button>
        </>
      )}
      {tally.a + tally.b + tally.tie > 0 && (
        <span className="ml-auto tabular-nums">{t.tally(tally.a, tally.b, tally.tie)}</span>
      )}
    </div>
  );
}
