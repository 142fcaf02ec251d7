import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Plugin } from "vite";

const LIBRARY = fileURLToPath(
  new URL("../node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js", import.meta.url),
);

const frame = (library: string) => `<!doctype html>
<html lang="en">
  <head><meta charset="utf-8"><title>Diagram</title></head>
  <body>
    <script src="${library}"></script>
    <script src="/diagram.js"></script>
  </body>
</html>
`;

/**
 * Adds `diagram.html`, the page that draws a Mermaid diagram within a sandboxed frame.
 *
 * Mermaid writes inline styles, which the page's own policy refuses; in a frame of another origin
 * it needs none of the page's rights. Nothing of it is loaded before there is a diagram.
 */
export function diagramFrame(): Plugin {
  return {
    name: "resonance:diagram-frame",
    generateBundle() {
      const source = readFileSync(LIBRARY);
      const library = this.emitFile({ type: "asset", name: "mermaid.js", source });
      this.emitFile({
        type: "asset",
        fileName: "diagram.html",
        source: frame(`/${this.getFileName(library)}`),
      });
    },
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        if (request.url === "/diagram.html") {
          response.setHeader("Content-Type", "text/html");
          response.end(frame("/mermaid.js"));
        } else if (request.url === "/mermaid.js") {
          response.setHeader("Content-Type", "text/javascript");
          response.end(readFileSync(LIBRARY));
        } else next();
      });
    },
  };
}
