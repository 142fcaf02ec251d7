import { PanelLeftClose, Search, SquarePen } from "lucide-react";
import { useDeferredValue, useState } from "react";
import type { Shelf } from "@/api/queries";
import { ActionButton } from "@/components/chat/action-button";
import { Button } from "@/components/ui/button";
import { Input } from "@/components/ui/input";
import { useWords } from "@/i18n";
import { focusComposer } from "@/lib/focus";
import { navigate } from "@/lib/router";
import { Logo } from "../shell/logo";
import { ConversationList } from "./conversation-list";
import { ListMenu } from "./list-menu";
import { ShelfMenu } from "./shelf-menu";
import { ToolLinks } from "./tool-links";

interface SidebarProps {
  current: string | null;
  onClose: () => void;
  /** Called when the reader goes somewhere; a drawer closes then. */
  onNavigate?: () => void;
}

export function Sidebar({ current, onClose, onNavigate }: SidebarProps) {
  const t = useWords();
  const [search, setSearch] = useState("");
  const [shelf, setShelf] = useState<Shelf>(null);
  const settled = useDeferredValue(search.trim());
  return (
    <div className="flex h-full flex-col gap-3 p-3">
      <div className="flex items-center gap-2.5 pl-1">
        <Logo className="size-7" />
        <span className="font-semibold tracking-tight">{t.appName}</span>
        <ActionButton label={t.closeSidebar} className="ml-auto" onClick={onClose}>
          <PanelLeftClose />
        </ActionButton>
      </div>
      <Button
        variant="outline"
        className="justify-start bg-background/40"
        onClick={() => {
          navigate("/");
          onNavigate?.();
          focusComposer();
        }}
      >
        <SquarePen />
        {t.newChat}
      </Button>
      <div className="flex gap-1">
        <div className="relative min-w-0 grow">
          <Search className="pointer-events-none absolute inset-y-0 left-3 my-auto size-4 text-muted-foreground" />
          <Input
            type="search"
            aria-label={t.searchConversations}
            placeholder={t.searchToggle}
            className="pl-9"
            value={search}
            onChange={(event) => setSearch(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Escape") setSearch("");
            }}
          />
        </div>
        <ListMenu />
      </div>
      {settled === "" && (
        <div className="-my-2 flex">
          <ShelfMenu shelf={shelf} onChoose={setShelf} />
        </div>
      )}
      <nav
        aria-label={t.conversations}
        className="scroll-quiet -mx-1 min-h-0 grow overflow-y-auto px-1"
      >
        <ConversationList
          search={settled}
          shelf={shelf}
          current={current}
          onNavigate={onNavigate}
        />
      </nav>
      <ToolLinks onNavigate={onNavigate} />
    </div>
  );
}
