import { cleanup, configure } from "@testing-library/react";
import { afterEach, vi } from "vitest";

configure({ asyncUtilTimeout: 20_000 });

if (typeof window !== "undefined") {
  afterEach(cleanup);
  // What jsdom lacks of a browser, as far as the components ask for it.
  vi.stubGlobal("matchMedia", (query: string) => ({
    // A wide window, and nothing moves: jsdom has no animations.
    matches: /min-width|reduced-motion/.test(query),
    media: query,
    addEventListener() {},
    removeEventListener() {},
  }));
  vi.stubGlobal(
    "ResizeObserver",
    class {
      observe() {}
      unobserve() {}
      disconnect() {}
    },
  );
  vi.stubGlobal(
    "IntersectionObserver",
    class {
      observe() {}
      disconnect() {}
    },
  );
  vi.stubGlobal(
    "CSSStyleSheet",
    class {
      replaceSync() {}
    },
  );
  Object.defineProperty(document, "adoptedStyleSheets", { value: [], writable: true });
  // MathML elements have a style in browsers.
  Object.defineProperty(Element.prototype, "style", { value: {}, writable: true });
  Element.prototype.scrollIntoView = () => {};
  Element.prototype.scrollTo = () => {};
  Element.prototype.hasPointerCapture = () => false;
  Element.prototype.setPointerCapture = () => {};
}
