import { Ellipsis, FileDown, Pencil, Trash2 } from "lucide-react";
import { useId, useRef, useState } from "react";
import { flushSync } from "react-dom";
import { toast } from "sonner";
import { useRenameConversation } from "@/api/queries";
import type { ListedConversation } from "@/api/types";
import { sentenceOf } from "@/chat/errors";
import { exportConversation, exportFormats } from "@/chat/export";
import { Button } from "@/components/ui/button";
import {
  DropdownMenu,
  DropdownMenuContent,
  DropdownMenuItem,
  DropdownMenuLabel,
  DropdownMenuSeparator,
  DropdownMenuTrigger,
} from "@/components/ui/dropdown-menu";
import { Input } from "@/components/ui/input";
import { useWords } from "@/i18n";
import { conversationHref, navigate } from "@/lib/router";
import { cn } from "@/lib/utils";
import { deleteWithUndo } from "./delete-with-undo";
import { Passage } from "./passage";

interface ConversationItemProps {
  conversation: ListedConversation;
  active: boolean;
  onNavigate?: () => void;
}

export function ConversationItem({ conversation, active, onNavigate }: ConversationItemProps) {
  const t = useWords();
  const [renaming, setRenaming] = useState(false);
  const link = useRef<HTMLAnchorElement>(null);
  const title = conversation.title || t.untitled;
  const passageId = useId();
  const href = conversationHref(conversation.id, conversation.snippet?.message_id);
  if (renaming) {
    return (
      <li>
        <RenameForm
          id={conversation.id}
          title={title}
          onClose={() => setRenaming(false)}
          onLeave={() => {
            flushSync(() => setRenaming(false));
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
        className="block truncate py-2 pr-9 pl-2.5 text-sm after:absolute after:inset-0 after:rounded-lg focus-visible:outline-none focus-visible:after:outline-2 focus-visible:after:outline-ring"
        onClick={(event) => {
          if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
          event.preventDefault();
          navigate(href);
          onNavigate?.();
        }}
      >
        {title}
      </a>
      {conversation.snippet && (
        <p id={passageId} className="-mt-1.5 pr-2.5 pb-2 pl-2.5">
          <Passage snippet={conversation.snippet} />
        </p>
      )}
      <ItemMenu conversation={conversation} title={title} onRename={() => setRenaming(true)} />
    </li>
  );
}

function ItemMenu({
  conversation,
  title,
  onRename,
}: {
  conversation: ListedConversation;
  title: string;
  onRename: () => void;
}) {
  const t = useWords();
  return (
    <DropdownMenu>
      <DropdownMenuTrigger asChild>
        <Button
          variant="ghost"
          size="icon-sm"
          aria-label={t.moreActions(title)}
          className="absolute top-1 right-1 z-10 size-7 opacity-0 focus-visible:opacity-100 group-focus-within/item:opacity-100 group-hover/item:opacity-100 data-[state=open]:opacity-100 pointer-coarse:opacity-100"
        >
          <Ellipsis />
        </Button>
      </DropdownMenuTrigger>
      <DropdownMenuContent align="start">
        <DropdownMenuItem onSelect={onRename}>
          <Pencil />
          {t.rename}
        </DropdownMenuItem>
        <DropdownMenuSeparator />
        <DropdownMenuLabel>{t.exportAs}</DropdownMenuLabel>
        {exportFormats.map(({ format, name }) => (
          <DropdownMenuItem
            key={format}
            onSelect={() =>
              exportConversation(conversation.id, format).catch((reason) =>
                toast.error(`${t.exportFailed} ${sentenceOf(reason)}`),
              )
            }
          >
            <FileDown />
            {t[name]}
          </DropdownMenuItem>
        ))}
        <DropdownMenuSeparator />
        <DropdownMenuItem variant="destructive" onSelect={() => deleteWithUndo(conversation.id)}>
          <Trash2 />
          {t.delete}
        </DropdownMenuItem>
      </DropdownMenuContent>
    </DropdownMenu>
  );
}

function RenameForm({
  id,
  title,
  onClose,
  onLeave,
}: {
  id: string;
  title: string;
  /** The reader has gone elsewhere. */
  onClose: () => void;
  /** The reader is done, and the focus needs another place. */
  onLeave: () => void;
}) {
  const t = useWords();
  const [draft, setDraft] = useState(title);
  const { mutate } = useRenameConversation();
  function save() {
    const wanted = draft.trim();
    if (wanted && wanted !== title) {
      mutate(
        { id, title: wanted },
        {
          onError: (reason) => toast.error(`${t.renameFailed} ${sentenceOf(reason)}`),
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
        aria-label={t.newTitle}
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
