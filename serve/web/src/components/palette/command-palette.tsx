import { MessageSquare, Search } from "lucide-react";
import { type KeyboardEvent, useDeferredValue, useId, useState } from "react";
import { useConversations } from "@/api/queries";
import { Dialog, DialogContent, DialogTitle } from "@/components/ui/dialog";
import { useWords } from "@/i18n";
import { conversationHref, navigate } from "@/lib/router";
import { useUi } from "@/lib/ui-store";
import { cn } from "@/lib/utils";
import { Passage } from "../sidebar/passage";
import { type Command, commands, writeKeys } from "./commands";

/** A list of everything the page can do and every conversation, narrowed by typing. */
export default function CommandPalette() {
  const t = useWords();
  const open = useUi((state) => state.panel === "palette");
  const close = useUi((state) => state.close);
  return (
    <Dialog open={open} onOpenChange={(next) => !next && close()}>
      <DialogContent aria-describedby={undefined} className="gap-0 p-0">
        <DialogTitle className="sr-only">{t.palette}</DialogTitle>
        <PaletteList
          onRun={(command) => {
            close();
            command.run();
          }}
        />
      </DialogContent>
    </Dialog>
  );
}

function useMatches(query: string): Command[] {
  const t = useWords();
  const found = useConversations(useDeferredValue(query.trim()));
  const conversations = found.data ?? [];
  const wanted = query.trim().toLowerCase();
  return [
    ...commands(t).filter((command) => command.label.toLowerCase().includes(wanted)),
    ...conversations.slice(0, 12).map((conversation) => ({
      id: `conversation-${conversation.id}`,
      label: conversation.title || t.untitled,
      passage: conversation.snippet,
      run: () => navigate(conversationHref(conversation.id, conversation.snippet?.message_id)),
    })),
  ];
}

function PaletteList({ onRun }: { onRun: (command: Command) => void }) {
  const t = useWords();
  const listId = useId();
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const matches = useMatches(query);
  const active = Math.min(at, matches.length - 1);
  const optionId = (i: number) => `${listId}-${i}`;

  function onKeyDown(event: KeyboardEvent) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && matches.length > 0) {
      const next = (active + step + matches.length) % matches.length;
      setAt(next);
      document.getElementById(optionId(next))?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter" && matches[active]) onRun(matches[active]);
    else return;
    event.preventDefault();
  }

  return (
    <>
      <div className="flex items-center gap-3 border-b px-4">
        <Search className="size-4 shrink-0 text-muted-foreground" />
        <input
          role="combobox"
          aria-expanded="true"
          aria-controls={listId}
          aria-activedescendant={matches.length > 0 ? optionId(active) : undefined}
          aria-label={t.palette}
          placeholder={t.paletteHint}
          className="h-13 w-full bg-transparent outline-none placeholder:text-muted-foreground"
          value={query}
          onChange={(event) => {
            setQuery(event.target.value);
            setAt(0);
          }}
          onKeyDown={onKeyDown}
        />
      </div>
      <div
        id={listId}
        role="listbox"
        aria-label={t.palette}
        className="scroll-quiet overflow-y-auto p-2"
      >
        {matches.map((command, i) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the field above has the keyboard
          <div
            key={command.id}
            id={optionId(i)}
            role="option"
            tabIndex={-1}
            aria-selected={i === active}
            className={cn(
              "flex cursor-default items-center gap-3 rounded-lg px-3 py-2.5 text-sm",
              i === active && "bg-accent",
            )}
            onMouseMove={() => setAt(i)}
            onClick={() => onRun(command)}
          >
            {command.id.startsWith("conversation-") && (
              <MessageSquare className="size-4 shrink-0 text-muted-foreground" />
            )}
            <span className="min-w-0">
              <span className="block truncate">{command.label}</span>
              {command.passage && <Passage snippet={command.passage} />}
            </span>
            {command.keys && <Keys>{command.keys}</Keys>}
          </div>
        ))}
      </div>
      {matches.length === 0 && (
        <p role="status" className="px-4 pb-6 text-center text-muted-foreground text-sm">
          {t.paletteEmpty}
        </p>
      )}
    </>
  );
}

export function Keys({ children }: { children: string }) {
  return (
    <kbd className="ml-auto shrink-0 rounded-md border bg-muted px-1.5 py-0.5 font-sans text-muted-foreground text-xs">
      {writeKeys(children)}
    </kbd>
  );
}
