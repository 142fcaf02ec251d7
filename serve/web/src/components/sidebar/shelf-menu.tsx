import { Archive, ChevronDown, MessagesSquare } from "lucide-react";
import { type Shelf, useFolders } from "@/api/queries";
import { Button } from "@/components/ui/button";
import {
  DropdownMenu,
  DropdownMenuRadioGroup,
  DropdownMenuRadioItem,
} from "@/components/ui/dropdown-menu";
import { useWords } from "@/i18n";
import { FolderItems, folderOf, folderValue } from "./folder-items";

const ALL = "all";
const ARCHIVED = "archived";

/** Chooses which conversations are listed: those in use, those of a folder, or the archive. */
export function ShelfMenu({ shelf, onChoose }: { shelf: Shelf; onChoose: (shelf: Shelf) => void }) {
  const t = useWords();
  const { data: folders = [] } = useFolders();
  const value = shelf === null ? ALL : shelf === ARCHIVED ? ARCHIVED : folderValue(shelf.folder);
  const shown =
    shelf === null ? t.allConversations : shelf === ARCHIVED ? t.archived : shelf.folder;
  return (
    <DropdownMenu
      trigger={
        <Button
          variant="ghost"
          size="sm"
          aria-label={`${t.shownConversations}: ${shown}`}
          className="min-w-0 shrink justify-start px-2.5 font-normal text-xs"
        >
          <bdi className="truncate">{shown}</bdi>
          <ChevronDown className="size-3.5" />
        </Button>
      }
      align="start"
      className="max-w-64"
    >
      <DropdownMenuRadioGroup
        value={value}
        onValueChange={(next) =>
          onChoose(next === ALL ? null : next === ARCHIVED ? ARCHIVED : { folder: folderOf(next) })
        }
      >
        <DropdownMenuRadioItem value={ALL}>
          <MessagesSquare />
          {t.allConversations}
        </DropdownMenuRadioItem>
        <FolderItems folders={folders} />
        <DropdownMenuRadioItem value={ARCHIVED}>
          <Archive />
          {t.archived}
        </DropdownMenuRadioItem>
      </DropdownMenuRadioGroup>
    </DropdownMenu>
  );
}
