import type { Link, PhrasingContent, Root, RootContent } from "mdast";

/** A remark plugin: `[1]` becomes a link to the card of source 1, where there is such a source. */
export function remarkCitations({ ids, anchor }: { ids: string[]; anchor: string }) {
  return (tree: Root) => visit(tree, new Set(ids), anchor);
}

function visit(node: Root | RootContent, ids: Set<string>, anchor: string): void {
  if (!("children" in node) || node.type === "link") return;
  const children: RootContent[] = [];
  for (const child of node.children) {
    if (child.type === "text") children.push(...cite(child.value, ids, anchor));
    else {
      visit(child, ids, anchor);
      children.push(child);
    }
  }
  node.children = children as typeof node.children;
}

function cite(text: string, ids: Set<string>, anchor: string): PhrasingContent[] {
  return text.split(/(\[\d{1,2}\])/).flatMap((part): PhrasingContent[] => {
    if (!part) return [];
    const id = /^\[(\d{1,2})\]$/.exec(part)?.[1];
    if (!id || !ids.has(id)) return [{ type: "text", value: part }];
    const link: Link = {
      type: "link",
      url: `#${anchor}-${id}`,
      children: [{ type: "text", value: id }],
    };
    return [link];
  });
}
