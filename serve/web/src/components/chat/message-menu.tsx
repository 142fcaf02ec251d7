import { Ellipsis, ScanText, Trash2 } from "lucide-react";
import { deleteMessage } from "@/chat/delete-message";
import type { Message } from "@/chat/tree";
import {
  DropdownMenu,
  DropdownMenuContent,
  DropdownMenuItem,
  DropdownMenuTrigger,
} from "@/components/ui/dropdown-menu";
import { useWords } from "@/i18n";
import { openPromptView } from "@/lib/ui-store";
import { ActionButton } from "./action-button";

interface MessageMenuProps {
  conversation: string;
  message: Message;
  busy: boolean;
}

/** What one rarely does with a message. */
export function MessageMenu({ conversation, message, busy }: MessageMenuProps) {
  const t = useWords();
  return (
    <DropdownMenu>
      <DropdownMenuTrigger asChild>
        <ActionButton label={t.moreMessageActions}>
          <Ellipsis />
        </ActionButton>
      </DropdownMenuTrigger>
      <DropdownMenuContent align={message.role === "user" ? "end" : "start"}>
        {message.role === "assistant" && (
          <DropdownMenuItem onSelect={() => openPromptView({ conversation, answer: message.id })}>
            <ScanText />
            {t.showPrompt}
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
      </DropdownMenuContent>
    </DropdownMenu>
  );
}
