import type { Snippet } from "@/api/types";

/** Where a search found its words. */
export function Passage({ snippet: { before, hit, after } }: { snippet: Snippet }) {
  return (
    <span className="line-clamp-2 text-muted-foreground text-xs leading-snug">
      {before}
      <mark className="rounded-sm bg-primary/20 text-foreground">{hit}</mark>
      {after}
    </span>
  );
}
