import { useTokenCount } from "@/hooks/use-token-count";
import { useLanguage, useWords } from "@/i18n";
import { cn } from "@/lib/utils";

/** How many tokens the message has, and whether they fit. */
export function TokenCount({ conversation, text }: { conversation: string | null; text: string }) {
  const t = useWords();
  const language = useLanguage();
  const size = useTokenCount(conversation, text);
  const figure = (value: number) => value.toLocaleString(language);
  const over = size && !size.fits;
  return (
    <span
      aria-live="polite"
      className={cn(
        "ml-auto text-right text-xs tabular-nums",
        over ? "text-destructive" : "text-muted-foreground",
      )}
    >
      {over && t.tokensTooMany(figure(size.prompt_tokens), figure(size.room))}
      {size && !over && (
        <span aria-hidden="true">{t.tokensWritten(figure(size.message_tokens))}</span>
      )}
    </span>
  );
}
