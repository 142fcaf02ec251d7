import { useEffect } from "react";
import { words } from "@/i18n";
import { COMPOSER_ID } from "@/lib/focus";
import { useUi } from "@/lib/ui-store";
import { commands } from "./commands";

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]")
  );
}

/** The name of what was pressed, as `commands` writes it. */
export function keysOf(event: KeyboardEvent): string {
  const parts = [
    (event.metaKey || event.ctrlKey) && "Mod",
    event.shiftKey && (event.metaKey || event.ctrlKey) && "Shift",
    event.key.length === 1 ? event.key.toUpperCase() : event.key,
  ];
  return parts.filter(Boolean).join("+");
}

/** Listens for the page's shortcuts; single keys only count outside of text fields. */
export function useShortcuts(): void {
  useEffect(() => {
    function onKeyDown(event: KeyboardEvent) {
      const keys = keysOf(event);
      const ui = useUi.getState();
      if (keys === "Mod+K") {
        event.preventDefault();
        if (ui.panel === "palette") ui.close();
        else ui.open("palette");
        return;
      }
      if (ui.panel || event.altKey || (isTyping(event.target) && !keys.startsWith("Mod"))) return;
      if (keys === "/") {
        event.preventDefault();
        document.getElementById(COMPOSER_ID)?.focus();
        return;
      }
      const command = commands(words()).find((one) => one.keys === keys);
      if (!command) return;
      event.preventDefault();
      command.run();
    }
    window.addEventListener("keydown", onKeyDown);
    return () => window.removeEventListener("keydown", onKeyDown);
  }, []);
}
