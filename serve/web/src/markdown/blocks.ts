import remarkParse from "remark-parse";
import { unified } from "unified";
import { remarkGfm } from "./syntax";

const parser = unified().use(remarkParse).use(remarkGfm).freeze();

/**
 * Cuts a growing Markdown text into its top-level blocks.
 *
 * Only the last block can still change, so each call parses no more than what followed the blocks
 * that were finished before; a finished block keeps its string and is never rendered again.
 */
export class BlockSplitter {
  private text = "";
  private finished: string[] = [];
  private end = 0;

  split(text: string): string[] {
    if (!text.startsWith(this.text.slice(0, this.end))) {
      this.finished = [];
      this.end = 0;
    }
    this.text = text;
    const tail = text.slice(this.end);
    const starts = parser.parse(tail).children.map((block) => block.position?.start.offset ?? 0);
    const last = starts.at(-1);
    if (last === undefined) return this.finished;
    // A paragraph's indentation belongs to it: cut where the line begins.
    const cuts = starts.map((at) => tail.lastIndexOf("\n", at - 1) + 1);
    const done = cuts.slice(0, -1).map((at, i) => tail.slice(at, cuts[i + 1]).trimEnd());
    const open = tail.slice(cuts.at(-1));
    if (done.length > 0) {
      this.finished = [...this.finished, ...done];
      this.end += cuts.at(-1) ?? 0;
    }
    return [...this.finished, open];
  }
}
