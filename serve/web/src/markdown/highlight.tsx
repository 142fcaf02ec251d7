import type { ElementContent, RootContent } from "hast";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";
import type { ReactNode } from "react";

const languages = {
  bash,
  cpp,
  diff,
  go,
  java,
  javascript,
  json,
  python,
  rust,
  sql,
  xml,
  yaml,
};

const lowlight = createLowlight(languages);
// Near enough to share a grammar; every language here is weight on the page.
lowlight.registerAlias({ cpp: ["c", "h"], javascript: ["ts", "tsx", "typescript"] });

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
