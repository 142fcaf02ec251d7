import { gfmFromMarkdown } from "mdast-util-gfm";
import { gfm } from "micromark-extension-gfm";
import type { Processor } from "unified";

/**
 * GitHub's Markdown for a remark parser: tables, task lists, strike-through, bare links.
 *
 * What `remark-gfm` does, without its half that writes Markdown and which a page never needs.
 */
export function remarkGfm(this: Processor) {
  const data = this.data();
  data.micromarkExtensions = [...(data.micromarkExtensions ?? []), gfm()];
  data.fromMarkdownExtensions = [...(data.fromMarkdownExtensions ?? []), gfmFromMarkdown()];
}
