import { useEffect, useEffectEvent, useRef } from "react";
import { type Shelf, useConversations, usePinned } from "@/api/queries";
import { sentenceOf } from "@/chat/errors";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { ConversationItem } from "./conversation-item";
import { groupByDay } from "./group-by-day";

interface ConversationListProps {
  search: string;
  shelf: Shelf;
  current: string | null;
  onNavigate?: () => void;
}

export function ConversationList({ search, shelf, current, onNavigate }: ConversationListProps) {
  const t = useWords();
  const list = useConversations(search, shelf);
  const all = shelf === null && search === "";
  const { data: pinned = [] } = usePinned();
  const above = all ? pinned : [];
  // What is pinned stands above, whatever its day.
  const conversations = (list.data ?? []).filter((one) => !(all && one.pinned));
  if (list.isError && !list.data) {
    return (
      <div role="alert" className="flex flex-col items-center gap-2 py-4">
        <Note>{`${t.conversationsFailed} ${sentenceOf(list.error)}`}</Note>
        <Button variant="secondary" size="sm" onClick={() => void list.refetch()}>
          {t.retry}
        </Button>
      </div>
    );
  }
  if (list.isPending) return null;
  if (conversations.length + above.length === 0)
    return <Note>{search ? t.noMatches : t.noConversations}</Note>;
  return (
    <>
      {[
        ...(above.length > 0 ? [["pinned", above] as const] : []),
        ...groupByDay(conversations, new Date()),
      ].map(([period, group]) => (
        <section key={period} className="mb-3">
          <h2 className="px-2.5 py-1.5 font-medium text-muted-foreground text-xs">{t[period]}</h2>
          <ul>
            {group.map((conversation) => (
              <ConversationItem
                key={conversation.id}
                conversation={conversation}
                active={conversation.id === current}
                onNavigate={onNavigate}
              />
            ))}
          </ul>
        </section>
      ))}
      {list.hasNextPage && (
        <Older
          key={conversations.length}
          loading={list.isFetchingNextPage}
          onLoad={() => void list.fetchNextPage()}
        />
      )}
    </>
  );
}

/** Loads what is older once the reader has scrolled down to it. */
function Older({ loading, onLoad }: { loading: boolean; onLoad: () => void }) {
  const t = useWords();
  const button = useRef<HTMLButtonElement>(null);
  const load = useEffectEvent(onLoad);
  useEffect(() => {
    const observer = new IntersectionObserver(([seen]) => seen?.isIntersecting && load());
    observer.observe(button.current as HTMLButtonElement);
    return () => observer.disconnect();
  }, []);
  return (
    <Button
      ref={button}
      variant="ghost"
      size="sm"
      className="w-full"
      disabled={loading}
      onClick={onLoad}
    >
      {t.loadMore}
    </Button>
  );
}

function Note({ children }: { children: string }) {
  return <p className="px-2.5 py-6 text-center text-muted-foreground text-sm">{children}</p>;
}
