import { useEffect, useRef, useState } from "react";
import { CopyButton } from "@/components/chat/copy-button";
import { useWords } from "@/i18n";
import { useShownTheme } from "@/settings/theme";
import { CodeBlock } from "./code-block";

/** A longer source stays text, as does one that takes longer to draw (ms). */
const LONGEST = 20_000;
const PATIENCE = 20_000;

/** The tallest drawing that is shown whole, in pixels. */
const TALLEST = 900;

interface Answer {
  ready?: true;
  failed?: true;
  height?: number;
}

/**
 * A Mermaid diagram, drawn in a sandboxed frame that is loaded when there is one.
 *
 * What cannot be drawn is shown as the code that it is.
 */
export function Diagram({ source }: { source: string }) {
  const t = useWords();
  const dark = useShownTheme() === "dark";
  const frame = useRef<HTMLIFrameElement>(null);
  const [height, setHeight] = useState(0);
  const [failed, setFailed] = useState(source.length > LONGEST);

  useEffect(() => {
    if (failed) return;
    const timer = setTimeout(() => setFailed(true), PATIENCE);
    const listen = (event: MessageEvent<Answer>) => {
      const target = frame.current?.contentWindow;
      if (!target || event.source !== target) return;
      if (event.data.ready) target.postMessage({ source, dark }, "*");
      if (event.data.failed) setFailed(true);
      if (event.data.height) {
        clearTimeout(timer);
        setHeight(Math.min(event.data.height, TALLEST));
      }
    };
    window.addEventListener("message", listen);
    return () => {
      clearTimeout(timer);
      window.removeEventListener("message", listen);
    };
  }, [source, dark, failed]);

  if (failed) return <CodeBlock code={source} language="mermaid" live={false} />;
  return (
    <figure className="group/code relative my-4 rounded-xl border bg-code p-3">
      <iframe
        // Another theme is another drawing.
        key={`${dark} ${source}`}
        ref={frame}
        src="/diagram.html"
        sandbox="allow-scripts"
        title={t.diagram}
        className="block w-full border-0"
        style={{ height: height || 80 }}
      />
      <div className="absolute top-1 right-1 rounded-md bg-code opacity-0 transition-opacity focus-within:opacity-100 group-hover/code:opacity-100 pointer-coarse:opacity-100">
        <CopyButton text={source} label={t.copyCode} />
      </div>
    </figure>
  );
}
