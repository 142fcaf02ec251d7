import type { RootContent } from "mdast";
import { memo, useMemo } from "react";
import { BlockSplitter } from "./blocks";
import { LazyModule, useLazyModule } from "./lazy";
import { hasMath, normaliseMath } from "./math-delimiters";
import { type Citations, renderNode, type Setting } from "./render";

const mathModule = new LazyModule(() => import("./math"));

interface MarkdownProps {
  text: string;
  /** The text still grows. */
  live?: boolean;
  citations?: Citations;
}

/** An answer's Markdown. While it grows, only its last block is rendered anew. */
export function Markdown({ text, live = false, citations }: MarkdownProps) {
  const formulas = hasMath(text);
  const math = useLazyModule(mathModule, formulas);
  const splitter = useMemo(() => new BlockSplitter(math?.mathSyntax), [math]);
  const blocks = useMemo(
    () => splitter.split(formulas ? normaliseMath(text) : text),
    [splitter, text, formulas],
  );
  return (
    <div className="prose-calm">
      {blocks.map(({ node }, i) => (
        <Block
          // biome-ignore lint/suspicious/noArrayIndexKey: blocks are only ever added at the end
          key={i}
          node={node}
          live={live && i === blocks.length - 1}
          citations={citations}
          Formula={math?.Formula}
        />
      ))}
    </div>
  );
}

const Block = memo(function Block({ node, ...setting }: Setting & { node: RootContent }) {
  return renderNode(node, setting);
});
