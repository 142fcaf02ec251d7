import { useMemo } from "react";
import { CopyButton } from "@/components/chat/copy-button";
import { useWords } from "@/i18n";
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
    <div className="group/code my-4 overflow-hidden rounded-xl border bg-code">
      <div className="flex h-9 items-center justify-between pr-1 pl-4 text-muted-foreground text-xs">
        <span className="font-mono">{language ?? ""}</span>
        <CopyButton text={code} label={t.copyCode} />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: long lines are scrolled by keyboard too */}
      <pre className="scroll-quiet overflow-x-auto px-4 pb-4 text-[0.84rem] leading-6" tabIndex={0}>
        <code>{coloured ?? code}</code>
      </pre>
    </div>
  );
}
