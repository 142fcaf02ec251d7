import {
  MessageCircleDashed,
  Monitor,
  Moon,
  PanelLeft,
  Settings2,
  SquarePen,
  Sun,
} from "lucide-react";
import { ActionButton } from "@/components/chat/action-button";
import { useWords } from "@/i18n";
import { focusComposer } from "@/lib/focus";
import { navigate, useRoute } from "@/lib/router";
import { useUi } from "@/lib/ui-store";
import { useSettings } from "@/settings/store";
import { nextTheme, systemTheme } from "@/settings/theme";
import { ContextMeter } from "./context-meter";
import { ModelPicker } from "./model-picker";

interface HeaderProps {
  conversation: string | null;
  /** The sidebar is not beside the page, so its buttons stand here. */
  sidebarHidden: boolean;
  onOpenSidebar: () => void;
}

export function Header({ conversation, sidebarHidden, onOpenSidebar }: HeaderProps) {
  const t = useWords();
  const { mode } = useRoute();
  return (
    <header className="glass absolute inset-x-0 top-0 z-20 flex h-14 items-center gap-1 border-x-0 border-t-0 px-2 shadow-none sm:px-3">
      {sidebarHidden && (
        <>
          <ActionButton label={t.openSidebar} size="icon" onClick={onOpenSidebar}>
            <PanelLeft />
          </ActionButton>
          <ActionButton
            label={t.newChat}
            size="icon"
            onClick={() => {
              navigate("/");
              focusComposer();
            }}
          >
            <SquarePen />
          </ActionButton>
        </>
      )}
      <ModelPicker />
      <div className="ml-auto flex items-center gap-0.5">
        {conversation && <ContextMeter conversation={conversation} />}
        {mode === "chat" && !conversation && (
          <ActionButton
            label={t.temporaryChat}
            size="icon"
            onClick={() => navigate("/?mode=temporary")}
          >
            <MessageCircleDashed />
          </ActionButton>
        )}
        <ThemeButton />
        <ActionButton
          label={t.settings}
          size="icon"
          onClick={() => useUi.getState().open("settings")}
        >
          <Settings2 />
        </ActionButton>
      </div>
    </header>
  );
}

function ThemeButton() {
  const t = useWords();
  const theme = useSettings((state) => state.theme);
  const set = useSettings((state) => state.set);
  const Icon = { system: Monitor, light: Sun, dark: Moon }[theme];
  const named = { system: t.themeSystem, light: t.themeLight, dark: t.themeDark }[theme];
  return (
    <ActionButton
      label={t.theme}
      aria-description={named}
      size="icon"
      onClick={() => set({ theme: nextTheme(theme, systemTheme()) })}
    >
      <Icon />
    </ActionButton>
  );
}
