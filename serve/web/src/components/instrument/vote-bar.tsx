import type { Candidate, Choice } from "@/api/votes";
import { useVotes } from "@/api/votes";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { tallyOf } from "@/instrument/tally";

/** Asks which side is better. */
export function VoteButtons({ note, onVote }: { note: string; onVote: (choice: Choice) => void }) {
  const t = useWords();
  const choices = [
    ["a", t.better("A")],
    ["tie", t.tie],
    ["b", t.better("B")],
  ] as const;
  return (
    <>
      <p className="w-full">{note}</p>
      {choices.map(([choice, name]) => (
        <Button key={choice} variant="secondary" size="sm" onClick={() => onVote(choice)}>
          {name}
        </Button>
      ))}
    </>
  );
}

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
      {open && <VoteButtons note={identical ? t.identical : t.differenceNote} onVote={onVote} />}
      {tally.a + tally.b + tally.tie > 0 && (
        <span className="ml-auto tabular-nums">{t.tally(tally.a, tally.b, tally.tie)}</span>
      )}
    </div>
  );
}
