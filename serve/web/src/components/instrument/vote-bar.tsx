import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { tallyOf, useVotes, type Vote } from "@/instrument/votes";
import { saveFile } from "@/lib/save-file";

interface VoteBarProps {
  /** Both answers are complete and not voted on yet. */
  open: boolean;
  identical: boolean;
  onVote: (better: Vote["better"]) => void;
}

export function VoteBar({ open, identical, onVote }: VoteBarProps) {
  const t = useWords();
  const votes = useVotes((state) => state.votes);
  const tally = tallyOf(votes);
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
      {votes.length > 0 && (
        <>
          <span className="ml-auto tabular-nums">{t.tally(tally.a, tally.b, tally.tie)}</span>
          <Button
            variant="ghost"
            size="sm"
            onClick={() =>
              saveFile(
                "votes.jsonl",
                "application/jsonl",
                votes.map((vote) => `${JSON.stringify(vote)}\n`).join(""),
              )
            }
          >
            {t.exportVotes}
          </Button>
        </>
      )}
    </div>
  );
}
