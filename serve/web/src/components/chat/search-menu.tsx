import { Globe } from "lucide-react";
import { toast } from "sonner";
import { useChangeConversation, useHealth } from "@/api/queries";
import type { SourceChoice } from "@/api/types";
import { sentenceOf } from "@/chat/errors";
import { noteSources, sourceOptions, useChosenSources } from "@/chat/source-choice";
import { getThread } from "@/chat/store";
import { Button } from "@/components/ui/button";
import {
  DropdownMenu,
  DropdownMenuLabel,
  DropdownMenuRadioGroup,
  DropdownMenuRadioItem,
  DropdownMenuSeparator,
} from "@/components/ui/dropdown-menu";
import { useWords } from "@/i18n";
import { cn } from "@/lib/utils";
import { type SearchMode, useSettings } from "@/settings/store";

/** When answers draw on a search, and on which sources those of this conversation may. */
export function SearchMenu({ conversation }: { conversation: string | null }) {
  const t = useWords();
  const health = useHealth().data;
  const available = Boolean(health?.search?.enabled);
  const search = useSettings((state) => state.search);
  const set = useSettings((state) => state.set);
  const { mutate } = useChangeConversation();
  const options = sourceOptions(health);
  const chosen = useChosenSources(conversation);
  const sources = options.find((option) => option === chosen) ?? options[0];
  const modes: [SearchMode, string, string][] = [
    ["off", t.searchOff, t.searchOffHint],
    ["auto", t.searchAuto, t.searchAutoHint],
    ["on", t.searchOn, t.searchOnHint],
  ];
  const places: Record<SourceChoice, string> = {
    both: t.sourcesBoth,
    web: t.sourcesWeb,
    documents: t.sourcesDocuments,
    off: t.sourcesNone,
  };
  const mode = modes.find(([name]) => name === search)?.[1];
  const named = [
    available && sources !== "off" && mode,
    sources && (sources !== options[0] || !available) && places[sources],
  ];

  function choose(next: SourceChoice) {
    const before = chosen;
    noteSources(conversation, next);
    const { byId, order } = getThread(conversation ?? "");
    // What is not stored yet is stored with its first question.
    if (!conversation || !order.some((id) => byId[id]?.serverId)) return;
    mutate(
      { id: conversation, search_sources: next },
      {
        onError: (reason) => {
          noteSources(conversation, before);
          toast.error(`${t.changeFailed} ${sentenceOf(reason)}`);
        },
      },
    );
  }

  return (
    <DropdownMenu
      trigger={
        <Button
          variant="ghost"
          size="sm"
          className={cn(
            "min-w-0 shrink rounded-full",
            available &&
              search === "on" &&
              sources !== "off" &&
              "bg-primary/14 text-primary hover:bg-primary/20 hover:text-primary",
          )}
        >
          <Globe />
          <span className="truncate">
            {available ? t.searchToggle : t.sources}:{" "}
            <span className="font-normal">{named.filter(Boolean).join(" · ")}</span>
          </span>
        </Button>
      }
      align="start"
      side="top"
      className="w-72"
    >
      {available && (
        <>
          <DropdownMenuLabel>{t.searchSetting}</DropdownMenuLabel>
          <DropdownMenuRadioGroup
            value={search}
            onValueChange={(next) => set({ search: next as SearchMode })}
          >
            {modes.map(([name, label, hint]) => (
              <Item key={name} value={name} label={label} hint={hint} />
            ))}
          </DropdownMenuRadioGroup>
          <DropdownMenuSeparator />
        </>
      )}
      <DropdownMenuLabel>{t.sourcesOfChat}</DropdownMenuLabel>
      <DropdownMenuRadioGroup
        value={sources}
        onValueChange={(next) => choose(next as SourceChoice)}
      >
        {options.map((option) => (
          <Item
            key={option}
            value={option}
            label={places[option]}
            hint={option === "off" ? t.sourcesNoneHint : undefined}
          />
        ))}
      </DropdownMenuRadioGroup>
    </DropdownMenu>
  );
}

function Item({ value, label, hint }: { value: string; label: string; hint?: string }) {
  return (
    <DropdownMenuRadioItem value={value}>
      <span className="min-w-0">
        <span className="block font-medium">{label}</span>
        {hint && <span className="block text-muted-foreground text-xs leading-snug">{hint}</span>}
      </span>
    </DropdownMenuRadioItem>
  );
}
