import { Archive, Ellipsis, FileDown, Folder, Pencil, Pin, Share2, Trash2 } from "lucide-react";
import { toast } from "sonner";
import { type Change, useChangeConversation, useFolders } from "@/api/queries";
import type { ListedConversation } from "@/api/types";
import { sentenceOf } from "@/chat/errors";
import { exportConversation, exportFormats } from "@/chat/export";
import { Button } from "@/components/ui/button";
import {
  DropdownMenu,
  DropdownMenuContent,
  DropdownMenuItem,
  DropdownMenuLabel,
  DropdownMenuRadioGroup,
  DropdownMenuRadioItem,
  DropdownMenuSeparator,
  DropdownMenuTrigger,
} from "@/components/ui/dropdown-menu";
import { useWords } from "@/i18n";
import { openShare } from "@/lib/ui-store";
import { deleteWithUndo } from "./delete-with-undo";

const NEW = "new ";
const NONE = "none";
const IN = "in ";

interface ItemMenuProps {
  conversation: ListedConversation;
  title: string;
  onRename: () => void;
  onNewFolder: () => void;
}

/** What can be done with one conversation of the list. */
export function ItemMenu({ conversation, title, onRename, onNewFolder }: ItemMenuProps) {
  const t = useWords();
  const { data: folders = [] } = useFolders();
  const { mutate } = useChangeConversation();
  const change = (part: Change) =>
    mutate(
      { id: conversation.id, ...part },
      { onError: (reason) => toast.error(`${t.changeFailed} ${sentenceOf(reason)}`) },
    );
  const { pinned = false, archived = false, folder } = conversation;
  return (
    <DropdownMenu>
      <DropdownMenuTrigger asChild>
        <Button
          variant="ghost"
          size="icon-sm"
          aria-label={t.moreActions(title)}
          className="absolute top-1 right-1 z-10 size-7 opacity-0 focus-visible:opacity-100 group-focus-within/item:opacity-100 group-hover/item:opacity-100 data-[state=open]:opacity-100 pointer-coarse:top-0 pointer-coarse:right-0 pointer-coarse:opacity-100"
        >
          <Ellipsis />
        </Button>
      </DropdownMenuTrigger>
      <DropdownMenuContent align="start" className="max-w-64">
        <DropdownMenuItem onSelect={onRename}>
          <Pencil />
          {t.rename}
        </DropdownMenuItem>
        <DropdownMenuItem onSelect={() => change({ pinned: !pinned })}>
          <Pin />
          {pinned ? t.unpin : t.pin}
        </DropdownMenuItem>
        <DropdownMenuItem onSelect={() => change({ archived: !archived })}>
          <Archive />
          {archived ? t.unarchive : t.archive}
        </DropdownMenuItem>
        <DropdownMenuItem onSelect={() => openShare({ conversation: conversation.id, title })}>
          <Share2 />
          {t.share}
        </DropdownMenuItem>
        <DropdownMenuSeparator />
        <DropdownMenuLabel>{t.folder}</DropdownMenuLabel>
        <DropdownMenuRadioGroup
          value={folder ? IN + folder : NONE}
          onValueChange={(value) => {
            if (value === NEW) onNewFolder();
            else change({ folder: value === NONE ? null : value.slice(IN.length) });
          }}
        >
          {folders.map((name) => (
            <DropdownMenuRadioItem key={name} value={IN + name}>
              <Folder />
              <bdi className="truncate">{name}</bdi>
            </DropdownMenuRadioItem>
          ))}
          {folder && <DropdownMenuRadioItem value={NONE}>{t.noFolder}</DropdownMenuRadioItem>}
          <DropdownMenuRadioItem value={NEW}>{t.newFolder}</DropdownMenuRadioItem>
        </DropdownMenuRadioGroup>
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
