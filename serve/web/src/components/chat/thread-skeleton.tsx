/** Stands in for a conversation that is being loaded. */
export function ThreadSkeleton() {
  return (
    <div aria-hidden="true" className="mx-auto flex max-w-3xl flex-col gap-8 px-6 pt-24">
      <div className="h-11 w-2/5 animate-pulse self-end rounded-3xl bg-foreground/7" />
      <div className="flex flex-col gap-3">
        <div className="h-4 w-11/12 animate-pulse rounded bg-foreground/7" />
        <div className="h-4 w-4/5 animate-pulse rounded bg-foreground/7" />
        <div className="h-4 w-3/5 animate-pulse rounded bg-foreground/7" />
      </div>
    </div>
  );
}
