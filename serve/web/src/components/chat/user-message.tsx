import { CornerDownRight, Pencil } from "lucide-react";
import { useRef, useState } from "react";
import { flushSync } from "react-dom";
import { edit, useEditing } from "@/chat/editing";
import { isLarge } from "@/chat/pastes";
import { answerQuestion, editAndResend } from "@/chat/session";
import type { Message } from "@/chat/tree";
import { Button } from "@/components/ui/button";
import { Textarea } from "@/components/ui/textarea";
import { useWords } from "@/i18n";
import { focusComposer } from "@/lib/focus";
import { ActionButton } from "./action-button";
import { CopyButton } from "./copy-button";
import { MessageMenu } from "./message-menu";
import { VersionSwitch } from "./version-switch";

interface UserMessageProps {
  conversation: string;
  message: Message;
  /** It stands at the end: there is no answer to it. */
  newest: boolean;
  /** An answer is being written, so nothing can be sent. */
  busy: boolean;
}

export function UserMessage({ conversation, message, newest, busy }: UserMessageProps) {
  const t = useWords();
  const editing = useEditing((state) => state.id === message.id);
  const pencil = useRef<HTMLButtonElement>(null);
  if (editing) {
    return (
      <EditForm
        text={message.content}
        onCancel={() => {
          flushSync(() => edit(null));
          pencil.current?.focus();
        }}
        onSend={(text) => {
          edit(null);
          focusComposer();
          void editAndResend(conversation, message.id, text);
        }}
      />
    );
  }
  return (
    <div className="flex flex-col items-end gap-1">
      <div
        dir="auto"
        className="max-w-[85%] whitespace-pre-wrap break-words rounded-3xl rounded-br-lg bg-bubble px-4.5 py-2.5 leading-relaxed"
      >
        <Folded text={message.content} />
      </div>
      <div className={`flex items-center ${newest ? "" : "quiet-actions"}`}>
        <VersionSwitch conversation={conversation} id={message.id} />
        <CopyButton text={message.content} label={t.copy} />
        <ActionButton ref={pencil} label={t.edit} disabled={busy} onClick={() => edit(message.id)}>
          <Pencil />
        </ActionButton>
        <MessageMenu conversation={conversation} message={message} busy={busy} />
        {newest && (
          <Button
            variant="outline"
            size="sm"
            className="ml-2"
            disabled={busy}
            onClick={() => void answerQuestion(conversation, message.id)}
          >
            <CornerDownRight />
            {t.answerNow}
          </Button>
        )}
      </div>
    </div>
  );
}

/** A question's text; a large one shows its beginning until it is unfolded. */
function Folded({ text }: { text: string }) {
  const t = useWords();
  const [open, setOpen] = useState(false);
  if (!isLarge(text)) return text;
  return (
    <>
      <span className={open ? undefined : "line-clamp-8"}>{text}</span>
      <Button
        variant="ghost"
        size="sm"
        className="-ml-2"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        {open ? t.showLess : t.showAll}
      </Button>
    </>
  );
}

function EditForm({
  text,
  onCancel,
  onSend,
}: {
  text: string;
  onCancel: () => void;
  onSend: (text: string) => void;
}) {
  const t = useWords();
  const [draft, setDraft] = useState(text);
  const ready = draft.trim() !== "";
  return (
    <form
      className="ml-auto flex w-full max-w-[92%] flex-col gap-2 rounded-3xl bg-bubble p-3"
      onSubmit={(event) => {
        event.preventDefault();
        if (ready) onSend(draft.trim());
      }}
    >
      <Textarea
        aria-label={t.editedText}
        dir="auto"
        className="border-0 bg-transparent text-base"
        value={draft}
        autoFocus
        onFocus={(event) => event.target.setSelectionRange(draft.length, draft.length)}
        onChange={(event) => setDraft(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") onCancel();
          if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
            event.preventDefault();
            event.currentTarget.form?.requestSubmit();
          }
        }}
      />
      <div className="flex justify-end gap-2">
        <Button variant="ghost" size="sm" onClick={onCancel}>
          {t.cancel}
        </Button>
        <Button size="sm" type="submit" disabled={!ready}>
          {t.resend}
        </Button>
      </div>
    </form>
  );
}
