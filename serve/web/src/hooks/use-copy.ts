import { useCallback, useEffect, useState } from "react";
import { toast } from "sonner";
import { words } from "@/i18n";

/** Copies text; `copied` stays true for a moment. */
export function useCopy() {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_600);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = useCallback(async (text: string) => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      toast.error(words().copyFailed);
    }
  }, []);
  return { copied, copy };
}
