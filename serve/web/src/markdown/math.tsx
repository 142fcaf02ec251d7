import { mathFromMarkdown } from "mdast-util-math";
import { math } from "micromark-extension-math";
import { useLayoutEffect, useRef } from "react";
import temml from "temml/temml.js";
import type { MoreSyntax } from "./syntax";

/** Formulas between double dollars, which `normaliseMath` has made of all others. */
export const mathSyntax: MoreSyntax = {
  recognise: math({ singleDollarTextMath: false }),
  build: mathFromMarkdown(),
};

/** A formula as MathML, set in the browser's own fonts; what cannot be read stays as it was written. */
export function Formula({ tex, display }: { tex: string; display: boolean }) {
  const target = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => {
    const element = target.current;
    if (!element) return;
    try {
      temml.render(tex, element, { displayMode: display });
    } catch {
      element.textContent = tex;
    }
  }, [tex, display]);
  return <span ref={target} className={display ? "block overflow-x-auto py-2" : undefined} />;
}
