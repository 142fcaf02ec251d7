import { Folder } from "lucide-react";
import { DropdownMenuRadioItem } from "@/components/ui/dropdown-menu";

const IN = "in ";

/** A folder's value in a menu, where other choices stand beside the folders. */
export const folderValue = (name: string) => IN + name;

/** The folder that a value of such a menu stands for. */
export const folderOf = (value: string) => value.slice(IN.length);

/** The reader's folders as items of a menu. */
export function FolderItems({ folders }: { folders: readonly string[] }) {
  return folders.map((name) => (
    <DropdownMenuRadioItem key={name} value={folderValue(name)}>
      <Folder />
      <bdi className="truncate">{name}</bdi>
    </DropdownMenuRadioItem>
  ));
}
