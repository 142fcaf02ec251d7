import { useMemo } from "react";
import { CopyButton } from "@/components/chat/copy-button";
import { useWords } from "@/i18n";
import { cn } from "@/lib/utils";
import { LazyModule, useLazyModule } from "./lazy";

const highlightModule = new LazyModule(() => import("./highlight"));

/** Above this many characters a block that still grows waits for its end before it is coloured. */
const LIVE_LIMIT = 3_000;

export function CodeBlock({
  code,
  language,
  live,
}: {
  code: string;
  language: string | null;
  live: boolean;
}) {
  const t = useWords();
  const highlighter = useLazyModule(highlightModule, language !== null);
  const coloured = useMemo(
    () =>
      language && highlighter && !(live && code.length > LIVE_LIMIT)
        ? highlighter.highlight(code, language)
        : null,
    [code, language, highlighter, live],
  );
  return (
    <div className="group/code relative my-4 rounded-xl border bg-code" dir="ltr">
      {language ? (
        <div className="flex h-9 items-center justify-between pr-1 pl-4 text-muted-foreground text-xs pointer-coarse:h-11">
          <span className="font-mono">{language}</span>
          <CopyButton text={code} label={t.copyCode} />
        </div>
      ) : (
        <div className="absolute top-1 right-1 rounded-md bg-code opacity-0 transition-opacity focus-within:opacity-100 group-hover/code:opacity-100 pointer-coarse:opacity-100">
          <CopyButton text={code} label={t.copyCode} />
        </div>
      )}
      <pre
        className={cn(
          "scroll-quiet overflow-x-auto rounded-xl px-4 pb-4 text-[0.84rem] leading-6",
          !language && "pt-3.5 pr-12 pb-3.5",
        )}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: long lines are scrolled by keyboard too
        tabIndex={0}
      >
        <code>{coloured ?? code}</code>
      </pre>
    </div>
  );
}
