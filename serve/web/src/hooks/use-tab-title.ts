import { useEffect } from "react";
import { useWords } from "@/i18n";

/** Calls the browser's tab by what the page shows; a new chat has no name yet. */
export function useTabTitle(shown: string | null | undefined): void {
  const { appName } = useWords();
  useEffect(() => {
    document.title = shown ? `${shown} · ${appName}` : appName;
  }, [shown, appName]);
}
