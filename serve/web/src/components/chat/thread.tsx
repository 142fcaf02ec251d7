import { ArrowDown } from "lucide-react";
import { memo, type ReactNode, useEffect, useRef } from "react";
import { useHealth } from "@/api/queries";
import { useLive, useMessage, usePath } from "@/chat/store";
import { Appear } from "@/components/ui/appear";
import { Button } from "@/components/ui/button";
import { articleId, useLinkedMessage } from "@/hooks/use-linked-message";
import { useStickToBottom } from "@/hooks/use-stick-to-bottom";
import { useWords } from "@/i18n";
import { cn } from "@/lib/utils";
import { AssistantMessage } from "./assistant-message";
import { StatusLine } from "./status-line";
import { UserMessage } from "./user-message";

/** The scrolling part of a chat: its messages, and `footer` held at the lower edge. */
export function Thread({ conversation, footer }: { conversation: string; footer: ReactNode }) {
  const t = useWords();
  const path = usePath(conversation);
  const live = useLive(conversation);
  const { areaRef, contentRef, stuck, stick, release } = useStickToBottom();
  const status = useHealth().data?.status;
  const unwell = status === "loading" || status === "down";
  const linked = useLinkedMessage(conversation, release);

  // Sending takes hold of the end again, wherever the reader was.
  const wasLive = useRef(live);
  useEffect(() => {
    if (live && live !== wasLive.current) stick();
    wasLive.current = live;
  }, [live, stick]);

  return (
    <div ref={areaRef} className="scroll-quiet flex h-full flex-col overflow-y-auto pt-16">
      <h1 className="sr-only">{t.thread}</h1>
      <div
        ref={contentRef}
        role="log"
        aria-label={t.thread}
        aria-busy={live !== undefined}
        className={cn(
          "mx-auto flex w-full max-w-3xl grow flex-col gap-1 px-4 py-6 sm:px-6",
          unwell && "pt-20", // the banner covers nothing of it
        )}
      >
        {path.map((id, i) => (
          <MessageRow
            key={id}
            conversation={conversation}
            id={id}
            newest={i === path.length - 1}
            busy={live !== undefined}
            linked={id === linked}
          />
        ))}
      </div>
      <StatusLine conversation={conversation} />
      <div className="shade sticky bottom-0 z-10">
        <Appear
          open={!stuck}
          className="pointer-events-none absolute inset-x-0 -top-11 flex justify-center"
          hidden={{ opacity: 0, transform: "translateY(8px)" }}
          shown={{ opacity: 1, transform: "none" }}
          duration={0.16}
        >
          <Button
            variant="ghost"
            size="icon"
            aria-label={t.scrollToLatest}
            className="glass pointer-events-auto rounded-full text-foreground"
            onClick={() => stick("smooth")}
          >
            <ArrowDown />
          </Button>
        </Appear>
        {footer}
      </div>
    </div>
  );
}

interface MessageRowProps {
  conversation: string;
  id: string;
  newest: boolean;
  busy: boolean;
  /** Whether the address names it. */
  linked: boolean;
}

const MessageRow = memo(function MessageRow({
  conversation,
  id,
  newest,
  busy,
  linked,
}: MessageRowProps) {
  const t = useWords();
  const message = useMessage(conversation, id);
  if (!message) return null;
  const user = message.role === "user";
  return (
    <article
      id={articleId(id)}
      tabIndex={linked ? -1 : undefined}
      data-role={message.role}
      aria-label={user ? t.you : (message.model ?? t.model)}
      className={cn("rise group/message", !newest && "settled", linked && "linked")}
    >
      {user ? (
        <UserMessage conversation={conversation} message={message} newest={newest} busy={busy} />
      ) : (
        <AssistantMessage
          conversation={conversation}
          message={message}
          newest={newest}
          busy={busy}
        />
      )}
    </article>
  );
});
