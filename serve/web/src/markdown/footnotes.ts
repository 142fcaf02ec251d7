import type { FootnoteDefinition } from "mdast";
import type { Block } from "./blocks";

/** The footnotes of a text: the number of each by its name, and what their elements' ids begin with. */
export interface Footnotes {
  numbers: Readonly<Record<string, number>>;
  anchor: string;
}

/** A footnote's mark in a text: `[^1]` or `[^name]`. */
export const MARK = /\[\^([^\]\s^]+)\]/;

/** The footnotes whose texts are among the blocks, in the order in which they are referred to. */
export function footnotesOf(text: string, blocks: readonly Block[]): FootnoteDefinition[] {
  const defined = new Map<string, FootnoteDefinition>();
  for (const { node } of blocks) {
    if (node.type === "footnoteDefinition" && !defined.has(node.identifier)) {
      defined.set(node.identifier, node);
    }
  }
  if (defined.size === 0) return [];
  const ordered = new Set<FootnoteDefinition>();
  for (const [, name] of text.matchAll(new RegExp(`${MARK.source}(?!:)`, "g"))) {
    const found = defined.get(name?.toLowerCase() ?? "");
    if (found) ordered.add(found);
  }
  return [...new Set([...ordered, ...defined.values()])];
}
