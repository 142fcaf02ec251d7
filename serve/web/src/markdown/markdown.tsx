import type { Element, ElementContent } from "hast";
import { type ComponentType, memo, type ReactNode, useMemo, useRef } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import type { PluggableList } from "unified";
import { BlockSplitter } from "./blocks";
import { remarkCitations } from "./citations";
import { CodeBlock } from "./code-block";
import { LazyModule, useLazyModule } from "./lazy";
import { hasMath, normaliseMath } from "./math-delimiters";
import { remarkGfm } from "./syntax";

const mathModule = new LazyModule(() => import("./math"));

export interface Citations {
  ids: string[];
  anchor: string;
}

interface MarkdownProps {
  text: string;
  /** The text still grows. */
  live?: boolean;
  citations?: Citations;
}

/** An answer's Markdown. While it grows, only its last block is rendered anew. */
export function Markdown({ text, live = false, citations }: MarkdownProps) {
  const splitter = useRef<BlockSplitter>(null);
  splitter.current ??= new BlockSplitter();
  const blocks = useMemo(
    () => (splitter.current as BlockSplitter).split(hasMath(text) ? normaliseMath(text) : text),
    [text],
  );
  return (
    <div className="prose-calm">
      {blocks.map((block, i) => (
        <Block
          // biome-ignore lint/suspicious/noArrayIndexKey: blocks are only ever added at the end
          key={i}
          text={block}
          live={live && i === blocks.length - 1}
          citations={citations}
        />
      ))}
    </div>
  );
}

const Block = memo(function Block({ text, live = false, citations }: MarkdownProps) {
  const math = useLazyModule(mathModule, hasMath(text));
  const remarkPlugins = useMemo<PluggableList>(
    () => [
      remarkGfm,
      ...(math ? [math.remarkMath] : []),
      ...(citations ? [[remarkCitations, citations] as [typeof remarkCitations, Citations]] : []),
    ],
    [math, citations],
  );
  const shown = useMemo(() => {
    const basic = live ? liveComponents : components;
    return math ? { ...basic, code: withFormulas(math.Formula) } : basic;
  }, [math, live]);
  return (
    <ReactMarkdown remarkPlugins={remarkPlugins} components={shown}>
      {text}
    </ReactMarkdown>
  );
});

function textOf(node: ElementContent | undefined): string {
  if (!node) return "";
  if (node.type === "text") return node.value;
  return node.type === "element" ? node.children.map(textOf).join("") : "";
}

/** remark-math leaves a formula as `code` of the class `math-inline` or `math-display`. */
function withFormulas(
  Formula: ComponentType<{ tex: string; display: boolean }>,
): Components["code"] {
  return ({ node, className, children }) => {
    const display = className?.includes("math-display") ?? false;
    if (!display && !className?.includes("math-inline")) return <code>{children}</code>;
    return <Formula tex={textOf(node)} display={display} />;
  };
}

function Pre({ node, live, children }: { node?: Element; live: boolean; children?: ReactNode }) {
  const code = node?.children[0];
  const classes = code?.type === "element" ? code.properties.className : undefined;
  if (Array.isArray(classes) && classes.includes("math-display")) return children;
  const language = Array.isArray(classes)
    ? String(classes[0] ?? "").replace(/^language-/, "")
    : null;
  return (
    <CodeBlock code={textOf(code).replace(/\n$/, "")} language={language || null} live={live} />
  );
}

const components: Components = {
  pre: ({ node, children }) => (
    <Pre node={node} live={false}>
      {children}
    </Pre>
  ),
  a: ({ href, children }) =>
    href?.startsWith("#") ? (
      <a href={href} className="citation">
        {children}
      </a>
    ) : (
      <a href={href} target="_blank" rel="noopener noreferrer">
        {children}
      </a>
    ),
  // A picture from elsewhere is neither loaded nor hidden: it becomes a link.
  img: ({ src, alt }) => (
    <a href={typeof src === "string" ? src : undefined} target="_blank" rel="noopener noreferrer">
      {alt || String(src ?? "")}
    </a>
  ),
  table: ({ children }) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: wide tables are scrolled by keyboard too
    <div className="scroll-quiet my-4 overflow-x-auto rounded-xl border" tabIndex={0}>
      <table>{children}</table>
    </div>
  ),
};

const liveComponents: Components = {
  ...components,
  pre: ({ node, children }) => (
    <Pre node={node} live>
      {children}
    </Pre>
  ),
};
