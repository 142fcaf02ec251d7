import { Ellipsis, RefreshCw, ScanText, Trash2 } from "lucide-react";
import { useModels } from "@/api/queries";
import { deleteMessage } from "@/chat/delete-message";
import { regenerate } from "@/chat/session";
import type { Message } from "@/chat/tree";
import {
  DropdownMenu,
  DropdownMenuItem,
  DropdownMenuLabel,
  DropdownMenuSeparator,
} from "@/components/ui/dropdown-menu";
import { useWords } from "@/i18n";
import { openPromptView } from "@/lib/ui-store";
import { ActionButton } from "./action-button";

interface MessageMenuProps {
  conversation: string;
  message: Message;
  busy: boolean;
  /** It stands at the end, where a button of its own regenerates it. */
  newest?: boolean;
}

/** What one rarely does with a message. */
export function MessageMenu({ conversation, message, busy, newest }: MessageMenuProps) {
  const t = useWords();
  const { data: models = [] } = useModels();
  const others = models.length > 1 ? models : [];
  return (
    <DropdownMenu
      trigger={
        <ActionButton label={t.moreMessageActions}>
          <Ellipsis />
        </ActionButton>
      }
      align={message.role === "user" ? "end" : "start"}
    >
      {message.role === "assistant" && !newest && (
        <DropdownMenuItem
          disabled={busy}
          onSelect={() => void regenerate(conversation, message.id, { model: message.model })}
        >
          <RefreshCw />
          {t.regenerate}
        </DropdownMenuItem>
      )}
      {message.role === "assistant" && others.length > 0 && (
        <>
          <DropdownMenuLabel>{t.regenerateWith}</DropdownMenuLabel>
          {others.map(({ id }) => (
            <DropdownMenuItem
              key={id}
              disabled={busy}
              onSelect={() => void regenerate(conversation, message.id, { model: id })}
            >
              <RefreshCw />
              <bdi className="truncate">{id}</bdi>
            </DropdownMenuItem>
          ))}
          <DropdownMenuSeparator />
        </>
      )}
      {message.role === "assistant" && (
        <DropdownMenuItem onSelect={() => openPromptView({ conversation, answer: message.id })}>
          <ScanText />
          {t.showPrompt}
        </DropdownMenuItem>
      )}
      {message.role === "assistant" && message.serverId && (
        <DropdownMenuItem
          onSelect={() => openPromptView({ conversation, answer: message.serverId }, "origin")}
        >
          <ScanText />
          {t.showOrigin}
        </DropdownMenuItem>
      )}
      <DropdownMenuItem
        variant="destructive"
        disabled={busy}
        onSelect={() => deleteMessage(conversation, message.id)}
      >
        <Trash2 />
        {t.deleteFromHere}
      </DropdownMenuItem>
    </DropdownMenu>
  );
}
