import type { RootContent } from "mdast";
import { memo, useId, useMemo } from "react";
import { useWords } from "@/i18n";
import { BlockSplitter } from "./blocks";
import { footnotesOf } from "./footnotes";
import { LazyModule, useLazyModule } from "./lazy";
import { hasMath, normaliseMath } from "./math-delimiters";
import { type Citations, FootnoteList, renderNode, type Setting } from "./render";

const mathModule = new LazyModule(() => import("./math"));

interface MarkdownProps {
  text: string;
  /** The text still grows. */
  live?: boolean;
  citations?: Citations;
  /** As a file holds it: nothing to press, nothing that is loaded. */
  plain?: boolean;
}

/** Loads what a text needs besides this module, so that it is rendered whole at once. */
export async function prepareMarkdown(text: string): Promise<void> {
  if (hasMath(text)) await mathModule.get();
}

/** An answer's Markdown. While it grows, only its last block is rendered anew. */
export function Markdown({ text, live = false, citations, plain }: MarkdownProps) {
  const formulas = hasMath(text);
  const math = useLazyModule(mathModule, formulas);
  const splitter = useMemo(() => new BlockSplitter(math?.mathSyntax), [math]);
  const blocks = useMemo(
    () => splitter.split(formulas ? normaliseMath(text) : text),
    [splitter, text, formulas],
  );
  const t = useWords();
  const anchor = useId();
  const notes = footnotesOf(text, blocks);
  const named = notes.map((note) => note.identifier).join(" ");
  const footnotes = useMemo(
    () =>
      named === ""
        ? undefined
        : {
            numbers: Object.fromEntries(named.split(" ").map((name, i) => [name, i + 1])),
            anchor: `note-${anchor}`,
          },
    [named, anchor],
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
          footnotes={footnotes}
          plain={plain}
          Formula={math?.Formula}
        />
      ))}
      {footnotes && (
        <FootnoteList
          notes={notes}
          setting={{ live: false, footnotes, Formula: math?.Formula }}
          label={t.footnotes}
          back={t.footnoteBack}
        />
      )}
    </div>
  );
}

const Block = memo(function Block({ node, ...setting }: Setting & { node: RootContent }) {
  return renderNode(node, setting);
});
