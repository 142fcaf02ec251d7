import { Archive, ChevronDown, Folder, MessagesSquare } from "lucide-react";
import { type Shelf, useFolders } from "@/api/queries";
import { Button } from "@/components/ui/button";
import {
  DropdownMenu,
  DropdownMenuContent,
  DropdownMenuRadioGroup,
  DropdownMenuRadioItem,
  DropdownMenuTrigger,
} from "@/components/ui/dropdown-menu";
import { useWords } from "@/i18n";

const ALL = "all";
const ARCHIVED = "archived";
const IN = "in ";

/** Chooses which conversations are listed: those in use, those of a folder, or the archive. */
export function ShelfMenu({ shelf, onChoose }: { shelf: Shelf; onChoose: (shelf: Shelf) => void }) {
  const t = useWords();
  const { data: folders = [] } = useFolders();
  const value = shelf === null ? ALL : shelf === ARCHIVED ? ARCHIVED : IN + shelf.folder;
  const shown =
    shelf === null ? t.allConversations : shelf === ARCHIVED ? t.archived : shelf.folder;
  return (
    <DropdownMenu>
      <DropdownMenuTrigger asChild>
        <Button
          variant="ghost"
          size="sm"
          aria-label={`${t.shownConversations}: ${shown}`}
          className="min-w-0 shrink justify-start px-2.5 font-normal text-xs"
        >
          <bdi className="truncate">{shown}</bdi>
          <ChevronDown className="size-3.5" />
        </Button>
      </DropdownMenuTrigger>
      <DropdownMenuContent align="start" className="max-w-64">
        <DropdownMenuRadioGroup
          value={value}
          onValueChange={(next) =>
            onChoose(
              next === ALL
                ? null
                : next === ARCHIVED
                  ? ARCHIVED
                  : { folder: next.slice(IN.length) },
            )
          }
        >
          <DropdownMenuRadioItem value={ALL}>
            <MessagesSquare />
            {t.allConversations}
          </DropdownMenuRadioItem>
          {folders.map((name) => (
            <DropdownMenuRadioItem key={name} value={IN + name}>
              <Folder />
              <bdi className="truncate">{name}</bdi>
            </DropdownMenuRadioItem>
          ))}
          <DropdownMenuRadioItem value={ARCHIVED}>
            <Archive />
            {t.archived}
          </DropdownMenuRadioItem>
        </DropdownMenuRadioGroup>
      </DropdownMenuContent>
    </DropdownMenu>
  );
}
