import { CircleAlert, Clock, FastForward } from "lucide-react";
import { cancelHeld, continueAnswer, regenerate } from "@/chat/session";
import type { Message } from "@/chat/tree";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";

interface AnswerEndingProps {
  conversation: string;
  message: Message;
  newest: boolean;
  busy: boolean;
}

/** How an answer ended, where it did not simply end, and how to go on from there. */
export function AnswerEnding({ conversation, message, newest, busy }: AnswerEndingProps) {
  const t = useWords();
  const goOn = newest && message.content !== "" && (
    <Button
      variant="outline"
      size="sm"
      disabled={busy}
      onClick={() => void continueAnswer(conversation, message.id)}
    >
      <FastForward />
      {t.continueAnswer}
    </Button>
  );
  if (message.status === "waiting") {
    return (
      <div className="mt-1 flex flex-wrap items-center gap-x-3 gap-y-2 text-muted-foreground text-sm">
        <Clock className="size-4 shrink-0" />
        <span className="min-w-40 max-w-fit flex-1">{t.answerHeld}</span>
        <Button variant="outline" size="sm" onClick={() => cancelHeld(conversation, message.id)}>
          {t.holdNoMore}
        </Button>
      </div>
    );
  }
  if (message.status === "failed" || message.status === "dropped") {
    return (
      <div
        role="alert"
        className="mt-2 flex flex-wrap items-center gap-x-3 gap-y-2 rounded-2xl border border-destructive/30 bg-destructive/8 px-4 py-2.5 text-sm"
      >
        <CircleAlert className="size-4 shrink-0 text-destructive" />
        <span className="min-w-40 flex-1">{message.error ?? t.connectionLost}</span>
        <span className="flex gap-2">
          {goOn}
          <Button
            variant="outline"
            size="sm"
            disabled={busy}
            onClick={() => void regenerate(conversation, message.id)}
          >
            {t.retry}
          </Button>
        </span>
      </div>
    );
  }
  const cut =
    message.status === "stopped"
      ? t.stoppedHere
      : message.status === "done" && message.finishReason === "length"
        ? t.lengthReached
        : null;
  const dropped = message.usage?.messages_dropped;
  if (!cut && !dropped) return null;
  return (
    <div className="mt-1 flex flex-wrap items-center gap-x-3 gap-y-1 text-muted-foreground text-xs">
      {cut && <span>{cut}</span>}
      {cut && goOn}
      {dropped ? <span>{t.messagesDropped(dropped)}</span> : null}
    </div>
  );
}
