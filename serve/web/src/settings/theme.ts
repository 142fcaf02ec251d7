import { useEffect, useSyncExternalStore } from "react";
import { type Theme, useSettings } from "./store";

const dark = () => window.matchMedia("(prefers-color-scheme: dark)");

function subscribe(listener: () => void) {
  const query = dark();
  query.addEventListener("change", listener);
  return () => query.removeEventListener("change", listener);
}

/** The theme that is shown: "system" looked up. */
export function useShownTheme(): "light" | "dark" {
  const theme = useSettings((state) => state.theme);
  const system = useSyncExternalStore(subscribe, () => (dark().matches ? "dark" : "light"));
  return theme === "system" ? system : theme;
}

/** The next one of the theme button: first what changes the picture, then back to the system's. */
export function nextTheme(theme: Theme, system: "light" | "dark"): Theme {
  const other = system === "dark" ? "light" : "dark";
  if (theme === "system") return other;
  return theme === other ? system : "system";
}

export function systemTheme(): "light" | "dark" {
  return dark().matches ? "dark" : "light";
}

/** Puts the theme on the document. */
export function useApplyTheme(): void {
  const shown = useShownTheme();
  useEffect(() => {
    document.documentElement.classList.toggle("dark", shown === "dark");
    document.documentElement.style.colorScheme = shown;
  }, [shown]);
}
