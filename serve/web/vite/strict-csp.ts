import type { Plugin } from "vite";

/** What the built page may load: its own files, and nothing that is written inline. */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "font-src 'self'",
  "connect-src 'self'",
  "frame-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'self'",
].join("; ");

/**
 * Makes the build hold under {@link CONTENT_SECURITY_POLICY}.
 *
 * The policy stands in the page itself, so that it holds whoever serves the files. Sonner adds its
 * style sheet as an inline element when it is imported; that call goes, and `index.css` imports the
 * same sheet as a file.
 */
export function strictCsp(): Plugin {
  return {
    name: "resonance:strict-csp",
    apply: "build",
    transform(code, id) {
      if (!/sonner[\\/]dist[\\/]index\.mjs/.test(id)) return null;
      const without = code.replace(/^__insertCSS\(".*"\);?$/m, "");
      if (without === code) {
        this.error("sonner no longer calls __insertCSS(...): look at how it adds its styles now");
      }
      return { code: without, map: null };
    },
    transformIndexHtml() {
      return [
        {
          tag: "meta",
          attrs: { "http-equiv": "Content-Security-Policy", content: CONTENT_SECURITY_POLICY },
          injectTo: "head-prepend",
        },
      ];
    },
  };
}
