import { Globe } from "lucide-react";
import { useHealth } from "@/api/queries";
import { Button } from "@/components/ui/button";
import {
  DropdownMenu,
  DropdownMenuContent,
  DropdownMenuLabel,
  DropdownMenuRadioGroup,
  DropdownMenuRadioItem,
  DropdownMenuTrigger,
} from "@/components/ui/dropdown-menu";
import { Tooltip } from "@/components/ui/tooltip";
import { useWords } from "@/i18n";
import { cn } from "@/lib/utils";
import { type SearchMode, useSettings } from "@/settings/store";

/** Whether answers draw on a search: never, where the server finds it worth one, or always. */
export function SearchMenu() {
  const t = useWords();
  const available = Boolean(useHealth().data?.search?.enabled);
  const search = useSettings((state) => state.search);
  const set = useSettings((state) => state.set);
  const shown = available ? search : "off";
  const modes: [SearchMode, string, string][] = [
    ["off", t.searchOff, t.searchOffHint],
    ["auto", t.searchAuto, t.searchAutoHint],
    ["on", t.searchOn, t.searchOnHint],
  ];
  const named = { off: t.searchOff, auto: t.searchAuto, on: t.searchOn }[shown];
  const button = (
    <Button
      variant="ghost"
      size="sm"
      aria-disabled={!available}
      className={cn(
        "rounded-full",
        shown === "on" && "bg-primary/14 text-primary hover:bg-primary/20 hover:text-primary",
        !available && "opacity-60",
      )}
    >
      <Globe />
      <span>
        {t.searchToggle}: <span className="font-normal">{named}</span>
      </span>
    </Button>
  );
  if (!available) return <Tooltip content={t.searchUnavailable}>{button}</Tooltip>;
  return (
    <DropdownMenu>
      <DropdownMenuTrigger asChild>{button}</DropdownMenuTrigger>
      <DropdownMenuContent align="start" side="top" className="w-72">
        <DropdownMenuLabel>{t.searchSetting}</DropdownMenuLabel>
        <DropdownMenuRadioGroup
          value={shown}
          onValueChange={(mode) => set({ search: mode as SearchMode })}
        >
          {modes.map(([mode, name, hint]) => (
            <DropdownMenuRadioItem key={mode} value={mode}>
              <span className="min-w-0">
                <span className="block font-medium">{name}</span>
                <span className="block text-muted-foreground text-xs leading-snug">{hint}</span>
              </span>
            </DropdownMenuRadioItem>
          ))}
        </DropdownMenuRadioGroup>
      </DropdownMenuContent>
    </DropdownMenu>
  );
}
