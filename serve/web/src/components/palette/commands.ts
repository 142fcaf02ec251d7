import type { Snippet } from "@/api/types";
import type { Dictionary } from "@/i18n/en";
import { focusComposer } from "@/lib/focus";
import { navigate } from "@/lib/router";
import { openDocuments, useUi } from "@/lib/ui-store";
import { nextSearch, useSettings } from "@/settings/store";
import { nextTheme, systemTheme } from "@/settings/theme";

export interface Command {
  id: string;
  label: string;
  keys?: string;
  /** Where a search found a conversation. */
  passage?: Snippet | null;
  run: () => void;
}

const mac = () => /Mac|iP/.test(navigator.platform);

/** How a shortcut is written on this machine. */
export function writeKeys(keys: string): string {
  return mac()
    ? keys.replace("Mod", "⌘").replace("Shift", "⇧").replaceAll("+", "")
    : keys.replace("Mod", "Ctrl");
}

/** Everything that the palette can do besides opening conversations. */
export function commands(t: Dictionary): Command[] {
  const { set, ...settings } = useSettings.getState();
  const open = useUi.getState().open;
  return [
    {
      id: "new",
      label: t.newChat,
      keys: "Mod+Shift+O",
      run: () => {
        navigate("/");
        focusComposer();
      },
    },
    { id: "temporary", label: t.temporaryChat, run: () => navigate("/?mode=temporary") },
    { id: "documents", label: t.documents, run: () => openDocuments() },
    { id: "learned", label: t.learned, run: () => open("learned") },
    { id: "settings", label: t.settings, keys: "Mod+,", run: () => open("settings") },
    { id: "compare", label: t.compare, run: () => navigate("/?mode=compare") },
    { id: "complete", label: t.complete, run: () => navigate("/?mode=complete") },
    {
      id: "theme",
      label: t.toggleTheme,
      run: () => set({ theme: nextTheme(settings.theme, systemTheme()) }),
    },
    {
      id: "sidebar",
      label: t.toggleSidebar,
      keys: "Mod+B",
      run: () => set({ sidebar: !settings.sidebar }),
    },
    {
      id: "search",
      label: t.toggleSearch,
      run: () => set({ search: nextSearch(settings.search) }),
    },
    { id: "tokens", label: t.toggleTokens, run: () => set({ tokenView: !settings.tokenView }) },
    { id: "key", label: t.apiKey, run: () => open("key") },
    { id: "help", label: t.help, keys: "?", run: () => open("help") },
  ];
}

/** The shortcuts that are no commands. */
export function otherShortcuts(t: Dictionary): [string, string][] {
  return [
    [t.palette, "Mod+K"],
    [t.shortcutFocus, "/"],
    [t.shortcutSend, "Enter"],
    [t.shortcutNewline, "Shift+Enter"],
    [t.shortcutStop, "Escape"],
  ];
}
