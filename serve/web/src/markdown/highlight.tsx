import type { ElementContent, RootContent } from "hast";
import bash from "highlight.js/lib/languages/bash";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import xml from "highlight.js/lib/languages/xml";
import { createLowlight } from "lowlight";
import type { ReactNode } from "react";

const languages = {
  bash,
  javascript,
  json,
  python,
  xml,
};

const lowlight = createLowlight(languages);
// Near enough to share a grammar; every language here is weight on the page.
lowlight.registerAlias({ javascript: ["ts", "tsx", "typescript"] });

/** Code with its syntax in colour, or null when the language is not one we know. */
export function highlight(code: string, language: string): ReactNode {
  if (!lowlight.registered(language)) return null;
  return lowlight.highlight(language, code).children.map(colour);
}

function colour(node: RootContent | ElementContent, index: number): ReactNode {
  if (node.type === "text") return node.value;
  if (node.type !== "element") return null;
  const { className } = node.properties;
  return (
    <span key={index} className={Array.isArray(className) ? className.join(" ") : undefined}>
      {node.children.map(colour)}
    </span>
  );
}
