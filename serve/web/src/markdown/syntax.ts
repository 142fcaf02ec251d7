import type { Nodes, Parents, Root } from "mdast";
import { type Extension, fromMarkdown } from "mdast-util-from-markdown";
import { gfmAutolinkLiteralFromMarkdown } from "mdast-util-gfm-autolink-literal";
import { gfmFootnoteFromMarkdown } from "mdast-util-gfm-footnote";
import { gfmStrikethroughFromMarkdown } from "mdast-util-gfm-strikethrough";
import { gfmTableFromMarkdown } from "mdast-util-gfm-table";
import { gfmTaskListItemFromMarkdown } from "mdast-util-gfm-task-list-item";
import { gfmAutolinkLiteral } from "micromark-extension-gfm-autolink-literal";
import { gfmFootnote } from "micromark-extension-gfm-footnote";
import { gfmStrikethrough } from "micromark-extension-gfm-strikethrough";
import { gfmTable } from "micromark-extension-gfm-table";
import { gfmTaskListItem } from "micromark-extension-gfm-task-list-item";
import type { Extension as Syntax } from "micromark-util-types";

/** Syntax beyond GitHub's: how it is recognised, and which nodes it becomes. */
export interface MoreSyntax {
  recognise: Syntax;
  build: Extension;
}

/**
 * The tree of a text in GitHub's Markdown: tables, task lists, strike-through, bare links, footnotes.
 *
 * A footnote's mark in another block than its text stays text here: `render` knows of both.
 */
export function parseMarkdown(text: string, more: MoreSyntax | null = null): Root {
  const tree = fromMarkdown(text, {
    extensions: [
      gfmAutolinkLiteral(),
      gfmFootnote(),
      gfmStrikethrough(),
      gfmTable(),
      gfmTaskListItem(),
      ...(more ? [more.recognise] : []),
    ],
    mdastExtensions: [
      gfmAutolinkLiteralFromMarkdown(),
      gfmFootnoteFromMarkdown(),
      gfmStrikethroughFromMarkdown(),
      gfmTableFromMarkdown(),
      gfmTaskListItemFromMarkdown(),
      ...(more ? [more.build] : []),
    ],
  });
  const addresses = new Map<string, string>();
  for (const node of tree.children) {
    if (node.type === "definition") addresses.set(node.identifier, node.url);
  }
  if (addresses.size > 0) resolveReferences(tree, addresses);
  return tree;
}

/** Turns `[words][1]` into a link, where the same text says `[1]: address`. */
function resolveReferences(parent: Parents, addresses: Map<string, string>): void {
  const children = parent.children as Nodes[];
  for (const [i, node] of children.entries()) {
    if (node.type === "linkReference") {
      children[i] = {
        type: "link",
        url: addresses.get(node.identifier) ?? "",
        children: node.children,
      };
    } else if ("children" in node) resolveReferences(node, addresses);
  }
}
