import { toast } from "sonner";
import { ApiError, OfflineError } from "@/api/client";
import { words } from "@/i18n";
import { useUi } from "@/lib/ui-store";

/** An error as a sentence that says what to do, in the reader's language where we have one. */
export function sentenceOf(reason: unknown): string {
  const t = words();
  if (reason instanceof OfflineError) return t.errorOffline;
  if (reason instanceof ApiError) {
    if (reason.status === 401) return t.apiKeyNeeded;
    if (reason.status === 409) return t.errorConflict;
    if (reason.status === 429) return t.errorBusy(reason.retryAfter);
    if (reason.code === "context_length_exceeded") return t.errorTooLong;
  }
  return reason instanceof Error ? reason.message : String(reason);
}

/** Shows an error as a toast, and asks for the API key when that is what is missing. */
export function reportError(reason: unknown): void {
  // The banner says it.
  if (reason instanceof OfflineError) return;
  if (reason instanceof ApiError && reason.status === 401) useUi.getState().open("key");
  toast.error(sentenceOf(reason));
}
