import { useQuery } from "@tanstack/react-query";
import { MessageCircleDashed } from "lucide-react";
import { useEffect, useState } from "react";
import { ApiError } from "@/api/client";
import { getApiKey } from "@/api/key";
import { useConversations } from "@/api/queries";
import { stop } from "@/chat/answering";
import { sentenceOf } from "@/chat/errors";
import { send } from "@/chat/session";
import { beginWithSources, noteSources } from "@/chat/source-choice";
import { useChat, useLive, usePath } from "@/chat/store";
import { loadConversation, showConversation } from "@/chat/sync";
import { TEMPORARY } from "@/chat/temporary";
import { Button } from "@/components/ui/button";
import { useTabTitle } from "@/hooks/use-tab-title";
import { useWords } from "@/i18n";
import { conversationHref, navigate } from "@/lib/router";
import { Composer } from "./composer";
import { EmptyState } from "./empty-state";
import { Thread } from "./thread";
import { ThreadSkeleton } from "./thread-skeleton";

/** A conversation, or the beginning of one. */
export function ChatView({ conversation }: { conversation: string | null }) {
  return conversation ? <Open conversation={conversation} /> : <New />;
}

function New() {
  useTabTitle(null);
  // It has its id from the start, so that documents can be attached to it.
  const [id] = useState(() => crypto.randomUUID());
  function begin(text: string) {
    beginWithSources(id);
    void send(id, text);
    navigate(conversationHref(id));
  }
  return (
    <div className="scroll-quiet flex h-full flex-col overflow-y-auto pt-16">
      <EmptyState onPick={begin} />
      <div className="shade sticky bottom-0 z-10">
        <Composer conversation={null} attachTo={id} busy={false} onSend={begin} onStop={() => {}} />
      </div>
    </div>
  );
}

/** A conversation that is in this tab's memory alone, and says so. */
export function TemporaryView() {
  const t = useWords();
  const live = useLive(TEMPORARY);
  const begun = usePath(TEMPORARY).length > 0;
  useTabTitle(t.temporaryChat);
  useEffect(() => {
    noteSources(TEMPORARY, null);
    return () => {
      stop(TEMPORARY);
      useChat.getState().forget(TEMPORARY);
    };
  }, []);
  const composer = (
    <>
      <p className="mx-auto mb-1.5 flex w-fit max-w-[calc(100%-1.5rem)] items-center gap-2 rounded-full bg-background/80 px-3 py-1 text-muted-foreground text-xs">
        <MessageCircleDashed className="size-3.5 shrink-0" />
        {t.temporaryNote}
      </p>
      <Composer
        conversation={TEMPORARY}
        busy={live !== undefined}
        onSend={(text) => void send(TEMPORARY, text)}
        onStop={() => stop(TEMPORARY)}
      />
    </>
  );
  if (begun) return <Thread conversation={TEMPORARY} footer={composer} />;
  return (
    <div className="scroll-quiet flex h-full flex-col overflow-y-auto pt-16">
      <EmptyState onPick={(text) => void send(TEMPORARY, text)} />
      <div className="shade sticky bottom-0 z-10">{composer}</div>
    </div>
  );
}

function Open({ conversation }: { conversation: string }) {
  const here = useChat((state) => Boolean(state.threads[conversation]));
  const live = useLive(conversation);
  const stored = useQuery({
    queryKey: ["conversation", conversation],
    queryFn: ({ signal }) => loadConversation(conversation, signal),
    enabled: !here,
    staleTime: 0,
  });
  const listed = useConversations("").data?.find(({ id }) => id === conversation);
  useTabTitle(listed?.title ?? stored.data?.title);
  useEffect(() => {
    const found = stored.data;
    if (!here && found?.id === conversation) {
      showConversation(found);
    }
  }, [here, stored.data, conversation]);

  if (!here && stored.isError) {
    return <NotShown reason={stored.error} onRetry={() => void stored.refetch()} />;
  }
  if (!here) return <ThreadSkeleton />;
  return (
    <Thread
      key={conversation}
      conversation={conversation}
      footer={
        <Composer
          conversation={conversation}
          attachTo={conversation}
          busy={live !== undefined}
          onSend={(text) => {
            // A link to an earlier message has done its work.
            navigate(conversationHref(conversation), { replace: true });
            void send(conversation, text);
          }}
          onStop={() => stop(conversation)}
        />
      }
    />
  );
}

function NotShown({ reason, onRetry }: { reason: Error; onRetry: () => void }) {
  const t = useWords();
  const missing = reason instanceof ApiError && reason.status === 404;
  return (
    <div className="flex h-full flex-col items-center justify-center gap-4 px-6 text-center">
      <p role="alert" className="max-w-md text-balance">
        {missing
          ? getApiKey()
            ? t.conversationMissingOrOthers
            : t.conversationMissing
          : `${t.conversationFailed} ${sentenceOf(reason)}`}
      </p>
      {missing ? (
        <Button onClick={() => navigate("/")}>{t.newChat}</Button>
      ) : (
        <Button onClick={onRetry}>{t.retry}</Button>
      )}
    </div>
  );
}
