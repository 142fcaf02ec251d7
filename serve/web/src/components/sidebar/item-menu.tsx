import { Archive, Ellipsis, FileDown, Pencil, Pin, Share2, Trash2 } from "lucide-react";
import { toast } from "sonner";
import { type Change, useChangeConversation, useFolders } from "@/api/queries";
import type { ListedConversation } from "@/api/types";
import { sentenceOf } from "@/chat/errors";
import { exportConversation, exportFormats } from "@/chat/export";
import { Button } from "@/components/ui/button";
import {
  DropdownMenu,
  DropdownMenuItem,
  DropdownMenuLabel,
  DropdownMenuRadioGroup,
  DropdownMenuRadioItem,
  DropdownMenuSeparator,
} from "@/components/ui/dropdown-menu";
import { useWords } from "@/i18n";
import { openShare } from "@/lib/ui-store";
import { deleteWithUndo } from "./delete-with-undo";
import { FolderItems, folderOf, folderValue } from "./folder-items";

const NEW = "new ";
const NONE = "none";

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
    <DropdownMenu
      trigger={
        <Button
          variant="ghost"
          size="icon-sm"
          aria-label={t.moreActions(title)}
          className="absolute top-1 right-1 z-10 size-7 opacity-0 focus-visible:opacity-100 group-focus-within/item:opacity-100 group-hover/item:opacity-100 data-[state=open]:opacity-100 pointer-coarse:top-0 pointer-coarse:right-0 pointer-coarse:opacity-100"
        >
          <Ellipsis />
        </Button>
      }
      align="start"
      className="max-w-64"
    >
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
        value={folder ? folderValue(folder) : NONE}
        onValueChange={(value) => {
          if (value === NEW) onNewFolder();
          else change({ folder: value === NONE ? null : folderOf(value) });
        }}
      >
        <FolderItems folders={folders} />
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
    </DropdownMenu>
  );
}
