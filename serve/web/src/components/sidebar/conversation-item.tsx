import { useId, useRef, useState } from "react";
import { flushSync } from "react-dom";
import { toast } from "sonner";
import { useChangeConversation } from "@/api/queries";
import type { ListedConversation } from "@/api/types";
import { sentenceOf } from "@/chat/errors";
import { Input } from "@/components/ui/input";
import { useWords } from "@/i18n";
import { conversationHref, navigate } from "@/lib/router";
import { cn } from "@/lib/utils";
import { ItemMenu } from "./item-menu";
import { Passage } from "./passage";

interface ConversationItemProps {
  conversation: ListedConversation;
  active: boolean;
  onNavigate?: () => void;
}

export function ConversationItem({ conversation, active, onNavigate }: ConversationItemProps) {
  const t = useWords();
  const [changing, setChanging] = useState<"title" | "folder" | null>(null);
  const link = useRef<HTMLAnchorElement>(null);
  const title = conversation.title || t.untitled;
  const passageId = useId();
  const href = conversationHref(conversation.id, conversation.snippet?.message_id);
  if (changing) {
    return (
      <li>
        <NameForm
          id={conversation.id}
          what={changing}
          name={changing === "title" ? title : ""}
          onClose={() => setChanging(null)}
          onLeave={() => {
            flushSync(() => setChanging(null));
            link.current?.focus();
          }}
        />
      </li>
    );
  }
  return (
    <li
      className={cn(
        "group/item relative rounded-lg transition-colors hover:bg-foreground/6 has-[[data-state=open]]:bg-foreground/6",
        active && "bg-foreground/9 hover:bg-foreground/9",
      )}
    >
      <a
        ref={link}
        href={href}
        aria-current={active ? "page" : undefined}
        aria-describedby={conversation.snippet ? passageId : undefined}
        // The link covers its row, the passage included, and is called by the title alone.
        className="block truncate py-2 pr-9 pl-2.5 text-sm pointer-coarse:py-3 pointer-coarse:pr-12 after:absolute after:inset-0 after:rounded-lg focus-visible:outline-none focus-visible:after:outline-2 focus-visible:after:outline-ring"
        onClick={(event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
          event.preventDefault();
          navigate(href);
          onNavigate?.();
        }}
      >
        <TitleText title={title} />
      </a>
      {conversation.snippet && (
        <p id={passageId} className="-mt-1.5 pr-2.5 pb-2 pl-2.5">
          <Passage snippet={conversation.snippet} />
        </p>
      )}
      <ItemMenu
        conversation={conversation}
        title={title}
        onRename={() => setChanging("title")}
        onNewFolder={() => setChanging("folder")}
      />
    </li>
  );
}

/** A title whose number, which tells it from others that begin alike, is never cut off. */
function TitleText({ title }: { title: string }) {
  const [, words = title, number = ""] = /^(.+?)( \(\d+\))$/.exec(title) ?? [];
  if (!number) return <bdi>{title}</bdi>;
  return (
    <span className="flex">
      <bdi className="truncate">{words}</bdi>
      <span className="shrink-0 whitespace-pre">{number}</span>
    </span>
  );
}

/** A conversation's new title, or the name of the folder that it goes into. */
function NameForm({
  id,
  what,
  name,
  onClose,
  onLeave,
}: {
  id: string;
  what: "title" | "folder";
  name: string;
  /** The reader has gone elsewhere. */
  onClose: () => void;
  /** The reader is done, and the focus needs another place. */
  onLeave: () => void;
}) {
  const t = useWords();
  const [draft, setDraft] = useState(name);
  const { mutate } = useChangeConversation();
  function save() {
    const wanted = draft.trim();
    if (wanted && wanted !== name) {
      mutate(
        { id, [what]: wanted },
        {
          onError: (reason) => toast.error(`${t.changeFailed} ${sentenceOf(reason)}`),
        },
      );
    }
  }
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        save();
        onLeave();
      }}
    >
      <Input
        aria-label={what === "title" ? t.newTitle : t.folderName}
        maxLength={what === "title" ? 200 : 60}
        value={draft}
        autoFocus
        onFocus={(event) => event.target.select()}
        onChange={(event) => setDraft(event.target.value)}
        onBlur={() => {
          save();
          onClose();
        }}
        onKeyDown={(event) => {
          if (event.key === "Escape") onLeave();
        }}
      />
    </form>
  );
}
