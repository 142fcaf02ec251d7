import { toJsxRuntime } from "hast-util-to-jsx-runtime";
import bash from "highlight.js/lib/languages/bash";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import xml from "highlight.js/lib/languages/xml";
import { createLowlight } from "lowlight";
import type { ReactElement } from "react";
import { Fragment, jsx, jsxs } from "react/jsx-runtime";

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
export function highlight(code: string, language: string): ReactElement | null {
  if (!lowlight.registered(language)) return null;
  return toJsxRuntime(lowlight.highlight(language, code), { Fragment, jsx, jsxs });
}
