import { RefreshCw } from "lucide-react";
import { useMemo } from "react";
import type { TokenAlternative } from "@/api/types";
import { speedOf } from "@/chat/receive";
import { forkAnswer, regenerate } from "@/chat/session";
import { forkAt } from "@/chat/tokens";
import type { Message } from "@/chat/tree";
import { useLanguage, useWords } from "@/i18n";
import { formatClock, formatNumber, formatTime } from "@/lib/format";
import { useSettings } from "@/settings/store";
import { ActionButton } from "./action-button";
import { AnswerEnding } from "./answer-ending";
import { Answer } from "./answer-text";
import { CopyButton } from "./copy-button";
import { FeedbackButtons } from "./feedback-buttons";
import { MessageMenu } from "./message-menu";
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
  const ended = !live && message.status !== "waiting";
  const found = message.sources?.sources;
  const citations = useMemo(
    () =>
      found?.length
        ? { ids: found.map((source) => String(source.id)), anchor: `source-${message.id}` }
        : undefined,
    [found, message.id],
  );
  function fork(index: number, alternative: TokenAlternative) {
    const beginning = forkAt(message.tokens ?? [], index, alternative);
    if (beginning) void forkAnswer(conversation, message.id, beginning);
  }
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
          <TokenText tokens={message.tokens} onFork={busy ? undefined : fork} />
        ) : (
          <Answer text={message.content} live={live} citations={citations} />
        )}
        {live && message.content === "" && <Waiting />}
      </div>
      <AnswerEnding conversation={conversation} message={message} newest={newest} busy={busy} />
      {ended && (
        <div className={`-ml-2 flex flex-wrap items-center ${newest ? "" : "quiet-actions"}`}>
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
          <MessageMenu conversation={conversation} message={message} busy={busy} newest={newest} />
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

/** When it was written, and how fast. */
function Facts({ message }: { message: Message }) {
  const t = useWords();
  const language = useLanguage();
  const timing = speedOf(message);
  const parts = [
    timing?.tokensPerSecond && t.tokensPerSecond(formatNumber(timing.tokensPerSecond, language)),
    timing && t.firstTokenAfter(formatNumber(Math.round(timing.firstToken * 100) / 100, language)),
  ].filter(Boolean);
  return (
    <span className="ml-2 text-muted-foreground text-xs tabular-nums">
      <time dateTime={message.createdAt} title={formatTime(message.createdAt, language)}>
        {formatClock(message.createdAt, language)}
      </time>
      {parts.map((part) => ` · ${part}`)}
    </span>
  );
}
