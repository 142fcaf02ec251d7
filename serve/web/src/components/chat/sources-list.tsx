import { Globe } from "lucide-react";
import type { Source, Sources } from "@/api/types";
import { useWords } from "@/i18n";

/** What a search found, as cards; `[1]` in the answer links to the first. */
export function SourcesList({
  sources,
  anchor,
  onWithoutSearch,
}: {
  sources: Sources;
  anchor: string;
  onWithoutSearch?: () => void;
}) {
  const t = useWords();
  return (
    <section className="mb-3 flex flex-col gap-2">
      {sources.query && (
        <p className="flex items-center gap-2 text-muted-foreground text-xs">
          <Globe className="size-3.5 shrink-0" />
          <span className="min-w-0 truncate">{t.searchedFor(sources.query)}</span>
          {onWithoutSearch && (
            <button
              type="button"
              className="shrink-0 rounded underline decoration-current/40 underline-offset-2 hover:text-foreground"
              onClick={onWithoutSearch}
            >
              {t.withoutSearch}
            </button>
          )}
        </p>
      )}
      {sources.note && <p className="text-muted-foreground text-xs">{sources.note}</p>}
      {sources.sources.length === 0 ? (
        !sources.note && <p className="text-muted-foreground text-xs">{t.noSources}</p>
      ) : (
        <ul aria-label={t.sources} className="grid gap-2 sm:grid-cols-2">
          {sources.sources.map((source) => (
            <SourceCard key={source.id} source={source} anchor={anchor} />
          ))}
        </ul>
      )}
    </section>
  );
}

function SourceCard({ source, anchor }: { source: Source; anchor: string }) {
  const link = /^https?:/.test(source.url) ? source.url : undefined;
  return (
    <li
      id={`${anchor}-${source.id}`}
      className="min-w-0 scroll-mt-20 rounded-xl border bg-card/60 px-3.5 py-2.5 transition-colors target:border-primary target:bg-primary/8"
    >
      <a
        href={link}
        target="_blank"
        rel="noopener noreferrer"
        className="flex items-baseline gap-2 font-medium text-sm hover:underline"
      >
        <span className="text-primary tabular-nums">{source.id}</span>
        <span className="truncate">{source.title || source.url}</span>
      </a>
      <p className="truncate text-muted-foreground text-xs">{source.site ?? source.url}</p>
      {source.passage && (
        <p className="mt-1 line-clamp-3 text-muted-foreground text-xs leading-relaxed">
          {source.passage}
        </p>
      )}
    </li>
  );
}
