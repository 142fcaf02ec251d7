import type { RootContent } from "mdast";
import { type MoreSyntax, parseMarkdown } from "./syntax";

/** One top-level block: a paragraph, a list, a table, some code. */
export interface Block {
  text: string;
  node: RootContent;
}

/**
 * Cuts a growing Markdown text into its top-level blocks.
 *
 * Only the last block can still change, so each call parses no more than what followed the blocks
 * that were finished before; a finished block stays the same object and is never rendered again.
 */
export class BlockSplitter {
  private text = "";
  private finished: Block[] = [];
  private end = 0;

  constructor(private readonly more: MoreSyntax | null = null) {}

  split(text: string): Block[] {
    if (!text.startsWith(this.text.slice(0, this.end))) {
      this.finished = [];
      this.end = 0;
    }
    this.text = text;
    const tail = text.slice(this.end);
    const nodes = parseMarkdown(tail, this.more).children;
    // A paragraph's indentation belongs to it: cut where the line begins.
    const cuts = nodes.map(
      (node) => tail.lastIndexOf("\n", (node.position?.start.offset ?? 0) - 1) + 1,
    );
    const blocks = nodes.map((node, i) => {
      const block = tail.slice(cuts[i], cuts[i + 1]);
      return { node, text: i < nodes.length - 1 ? block.trimEnd() : block };
    });
    const open = blocks.pop();
    if (!open) return this.finished;
    if (blocks.length > 0) {
      this.finished = [...this.finished, ...blocks];
      this.end += cuts.at(-1) ?? 0;
    }
    return [...this.finished, open];
  }
}
