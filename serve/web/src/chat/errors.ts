import { toast } from "sonner";
import { ApiError, OfflineError } from "@/api/client";
import { queryClient } from "@/api/queries";
import { type Measured, measure } from "@/api/tokens";
import type { Health } from "@/api/types";
import { shownLanguage, words } from "@/i18n";
import { useUi } from "@/lib/ui-store";
import { useSettings } from "@/settings/store";

const languageOf = () => shownLanguage(useSettings.getState().language);

/** An error as a sentence that says what to do, in the reader's language where we have one. */
export function sentenceOf(reason: unknown): string {
  const t = words();
  if (reason instanceof OfflineError) return t.errorOffline;
  if (reason instanceof ApiError) {
    if (reason.status === 401) return t.apiKeyNeeded;
    if (reason.status === 409) return t.errorConflict;
    if (reason.status === 429) return t.errorBusy(reason.retryAfter);
    const known = {
      file_too_large: t.errorFileTooLarge,
      payload_too_large: t.errorFileTooLarge,
      too_many_files: t.errorTooManyFiles,
      unsupported_file: t.errorUnsupportedFile,
      unreadable_file: t.errorUnreadableFile,
      storage_quota_exceeded: t.errorQuota,
      too_many_shares: t.errorTooManyShares,
    }[reason.code ?? ""];
    if (known) return known;
    if (reason.code === "message_too_long") {
      const most = queryClient.getQueryData<Health>(["health"])?.limits?.message_chars;
      if (most) return t.errorTooManyChars(most.toLocaleString(languageOf()));
    }
  }
  return reason instanceof Error ? reason.message : String(reason);
}

/** Why there is no answer; where the message is too long for one, in the figures of the server. */
export async function failureOf(reason: unknown, asked: Measured | undefined): Promise<string> {
  const long = reason instanceof ApiError && reason.code === "context_length_exceeded";
  if (!long) return sentenceOf(reason);
  return asked ? tooLong(asked) : words().errorTooLongAlone;
}

async function tooLong(asked: Measured): Promise<string> {
  try {
    const size = await measure(asked);
    const figure = (value: number) => value.toLocaleString(languageOf());
    const over = Math.max(1, size.prompt_tokens - size.room);
    return words().errorTooLong(
      figure(size.prompt_tokens),
      figure(size.room),
      figure(size.answer_tokens),
      figure(over),
      over < size.answer_tokens,
    );
  } catch {
    return words().errorTooLongAlone;
  }
}

/** Shows an error as a toast, and asks for the API key when that is what is missing. */
export function reportError(reason: unknown): void {
  // The banner says it.
  if (reason instanceof OfflineError) return;
  if (reason instanceof ApiError && reason.status === 401) useUi.getState().open("key");
  toast.error(sentenceOf(reason));
}
