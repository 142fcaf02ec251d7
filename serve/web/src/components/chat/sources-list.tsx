import { Globe, GlobeLock, Pencil } from "lucide-react";
import type { ReactNode } from "react";
import { useRef, useState } from "react";
import { flushSync } from "react-dom";
import type { Source } from "@/api/types";
import type { SearchChoice } from "@/chat/request";
import { regenerate } from "@/chat/session";
import type { Message } from "@/chat/tree";
import { Button } from "@/components/ui/button";
import { Input } from "@/components/ui/input";
import { useLanguage, useWords } from "@/i18n";
import { problemIn, reasonIn } from "@/i18n/reasons";
import { focusComposer } from "@/lib/focus";
import { parseDocument } from "@/lib/router";
import { openDocuments } from "@/lib/ui-store";

interface SearchTrailProps {
  conversation: string;
  message: Message;
  /** Cards have ids that begin with this; `[1]` in the answer links to the first. */
  anchor: string;
  /** The answer can be asked for again. */
  open: boolean;
}

/** What a search looked for and found before an answer, or why there was none. */
export function SearchTrail({ conversation, message, anchor, open }: SearchTrailProps) {
  const t = useWords();
  const language = useLanguage();
  const { sources, unsearched, why } = message;
  function again(search: SearchChoice) {
    focusComposer();
    void regenerate(conversation, message.id, { search });
  }
  if (!sources) {
    if (!unsearched) return null;
    return (
      <Trail icon={<GlobeLock />}>
        <span>{t.notSearched(reasonIn(t, why, unsearched))}</span>
        {open && <TextButton onClick={() => again("on")}>{t.searchAnyway}</TextButton>}
      </Trail>
    );
  }
  return (
    <section aria-label={t.sources} className="mb-2 flex flex-col gap-2">
      <Trail icon={<Globe />}>
        {sources.query && (
          <QueryChip query={sources.query} open={open} onAsk={(query) => again({ query })} />
        )}
        {sources.reason && <span>{reasonIn(t, sources.why, sources.reason)}</span>}
        {open && <TextButton onClick={() => again("off")}>{t.withoutSearch}</TextButton>}
      </Trail>
      {sources.note && (
        <p className="text-muted-foreground text-xs">
          {problemIn(t, language, sources.problem, sources.note)}
        </p>
      )}
      {sources.sources.length === 0 ? (
        !sources.note && <p className="text-muted-foreground text-xs">{t.noSources}</p>
      ) : (
        <Sources sources={sources.sources} anchor={anchor} />
      )}
    </section>
  );
}

/** The sources of an answer, each as a card. */
export function Sources({ sources, anchor }: { sources: Source[]; anchor: string }) {
  const t = useWords();
  return (
    <ul aria-label={t.sources} className="mb-2 grid gap-2 sm:grid-cols-2">
      {sources.map((source) => (
        <SourceCard key={source.id} source={source} anchor={anchor} />
      ))}
    </ul>
  );
}

function Trail({ icon, children }: { icon: ReactNode; children: ReactNode }) {
  return (
    <div className="flex gap-x-2.5 text-muted-foreground text-xs [&>svg]:mt-1.75 [&>svg]:size-3.5 [&>svg]:shrink-0">
      {icon}
      <div className="flex min-h-7 min-w-0 flex-wrap items-center gap-x-2.5 gap-y-1">
        {children}
      </div>
    </div>
  );
}

function TextButton({ children, onClick }: { children: string; onClick: () => void }) {
  return (
    <button
      type="button"
      className="tap rounded py-1 underline decoration-current/40 underline-offset-2 hover:text-foreground"
      onClick={onClick}
    >
      {children}
    </button>
  );
}

/** The words that were searched for; changing them asks again with the new ones. */
function QueryChip({
  query,
  open,
  onAsk,
}: {
  query: string;
  open: boolean;
  onAsk: (query: string) => void;
}) {
  const t = useWords();
  const [draft, setDraft] = useState<string | null>(null);
  const chip = useRef<HTMLButtonElement>(null);
  function leave() {
    flushSync(() => setDraft(null));
    chip.current?.focus();
  }
  if (!open) return <span className="font-medium text-foreground/80">{t.searchedFor(query)}</span>;
  if (draft === null) {
    return (
      <button
        ref={chip}
        type="button"
        aria-label={`${t.editQuery}: ${query}`}
        className="flex min-w-0 items-center gap-1.5 rounded-full border bg-card/70 py-1 pr-2.5 pl-3 font-medium text-foreground transition-colors hover:bg-accent"
        onClick={() => setDraft(query)}
      >
        <span className="min-w-0 break-words text-left">{query}</span>
        <Pencil className="size-3 shrink-0 text-muted-foreground" />
      </button>
    );
  }
  const wanted = draft.trim();
  return (
    <form
      className="flex w-full max-w-md gap-2"
      onSubmit={(event) => {
        event.preventDefault();
        if (!wanted) return;
        leave();
        if (wanted !== query) onAsk(wanted);
      }}
    >
      <Input
        aria-label={t.editQuery}
        className="h-8 text-sm"
        value={draft}
        maxLength={500}
        autoFocus
        onFocus={(event) => event.target.select()}
        onChange={(event) => setDraft(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") leave();
        }}
      />
      <Button type="submit" size="sm" disabled={!wanted}>
        {t.searchAgain}
      </Button>
      <Button variant="ghost" size="sm" onClick={leave}>
        {t.cancel}
      </Button>
    </form>
  );
}

function SourceCard({ source, anchor }: { source: Source; anchor: string }) {
  const own = parseDocument(source.url);
  const title = (
    <>
      <span className="text-primary tabular-nums">{source.id}</span>
      <bdi className="truncate">{source.title || source.url}</bdi>
    </>
  );
  const heading = "flex items-baseline gap-2 font-medium text-sm";
  return (
    <li
      id={`${anchor}-${source.id}`}
      className="min-w-0 scroll-mt-20 rounded-xl border bg-card/60 px-3.5 py-2.5 transition-colors target:border-primary target:bg-primary/8"
    >
      {own ? (
        <a
          href={source.url}
          className={`${heading} hover:underline`}
          onClick={(event) => {
            if (event.metaKey || event.ctrlKey || event.shiftKey) return;
            event.preventDefault();
            openDocuments(own);
          }}
        >
          {title}
        </a>
      ) : /^https?:/.test(source.url) ? (
        <a
          href={source.url}
          target="_blank"
          rel="noopener noreferrer"
          className={`${heading} hover:underline`}
        >
          {title}
        </a>
      ) : (
        <p className={heading}>{title}</p>
      )}
      <p className="truncate text-muted-foreground text-xs">{source.site ?? source.url}</p>
      {source.passage && (
        <p
          dir="auto"
          className="mt-1 line-clamp-3 text-muted-foreground text-xs leading-relaxed hover:line-clamp-none"
        >
          {source.passage}
        </p>
      )}
    </li>
  );
}
