import { CircleAlert, RefreshCw } from "lucide-react";
import { useMemo } from "react";
import { regenerate } from "@/chat/session";
import type { Message } from "@/chat/tree";
import { Button } from "@/components/ui/button";
import { useLanguage, useWords } from "@/i18n";
import { formatNumber, formatTime } from "@/lib/format";
import { useSettings } from "@/settings/store";
import { ActionButton } from "./action-button";
import { Answer } from "./answer-text";
import { CopyButton } from "./copy-button";
import { FeedbackButtons } from "./feedback-buttons";
import { SearchTrail } from "./sources-list";
import { TokenText } from "./token-text";
import { VersionSwitch } from "./version-switch";

interface AssistantMessageProps {
  conversation: string;
  message: Message;
  newest: boolean;
  busy: boolean;
}

export function AssistantMessage({ conversation, message, newest, busy }: AssistantMessageProps) {
  const t = useWords();
  const tokenView = useSettings((state) => state.tokenView);
  const live = message.status === "streaming";
  const found = message.sources?.sources;
  const citations = useMemo(
    () =>
      found?.length
        ? { ids: found.map((source) => String(source.id)), anchor: `source-${message.id}` }
        : undefined,
    [found, message.id],
  );
  return (
    <div className="flex flex-col gap-1">
      <SearchTrail
        conversation={conversation}
        message={message}
        anchor={`source-${message.id}`}
        open={newest && !busy}
      />
      <div className={live ? "live" : undefined}>
        {tokenView && message.tokens?.length ? (
          <TokenText tokens={message.tokens} />
        ) : (
          <Answer text={message.content} live={live} citations={citations} />
        )}
        {live && message.content === "" && <Waiting />}
      </div>
      <Ending conversation={conversation} message={message} busy={busy} />
      {!live && (
        <div className={`-ml-2 flex flex-wrap items-center ${newest ? "" : "quiet-actions -mb-3"}`}>
          <VersionSwitch conversation={conversation} id={message.id} />
          <CopyButton text={message.content} label={t.copy} />
          {newest && (
            <ActionButton
              label={t.regenerate}
              disabled={busy}
              onClick={() => void regenerate(conversation, message.id)}
            >
              <RefreshCw />
            </ActionButton>
          )}
          {message.serverId && <FeedbackButtons conversation={conversation} message={message} />}
          <Facts message={message} />
        </div>
      )}
    </div>
  );
}

function Waiting() {
  return (
    <div className="flex h-7 items-center gap-1.5" aria-hidden="true">
      <span className="waiting-dot" />
      <span className="waiting-dot [animation-delay:160ms]" />
      <span className="waiting-dot [animation-delay:320ms]" />
    </div>
  );
}

/** How an answer ended, where it did not simply end. */
function Ending({ conversation, message, busy }: Omit<AssistantMessageProps, "newest">) {
  const t = useWords();
  if (message.status === "failed" || message.status === "dropped") {
    return (
      <div
        role="alert"
        className="mt-1 flex flex-wrap items-center gap-3 rounded-xl border border-destructive/30 bg-destructive/8 px-4 py-2.5 text-sm"
      >
        <CircleAlert className="size-4 shrink-0 text-destructive" />
        <span className="min-w-0 flex-1">{message.error ?? t.connectionLost}</span>
        <Button
          variant="outline"
          size="sm"
          disabled={busy}
          onClick={() => void regenerate(conversation, message.id)}
        >
          {t.retry}
        </Button>
      </div>
    );
  }
  const note =
    message.status === "stopped"
      ? t.stoppedHere
      : message.status === "done" && message.finishReason === "length"
        ? t.lengthReached
        : null;
  const dropped = message.usage?.messages_dropped;
  const notes = [note, dropped ? t.messagesDropped(dropped) : null].filter(Boolean);
  if (notes.length === 0) return null;
  return <p className="text-muted-foreground text-xs">{notes.join(" · ")}</p>;
}

/** When it was written, and how fast. */
function Facts({ message }: { message: Message }) {
  const t = useWords();
  const language = useLanguage();
  const timing = message.timing;
  const parts = [
    timing?.tokensPerSecond && t.tokensPerSecond(formatNumber(timing.tokensPerSecond, language)),
    timing && t.firstTokenAfter(formatNumber(timing.firstToken, language)),
  ].filter(Boolean);
  return (
    <span
      className="ml-2 text-muted-foreground text-xs tabular-nums"
      title={formatTime(message.createdAt, language)}
    >
      {parts.join(" · ")}
    </span>
  );
}
