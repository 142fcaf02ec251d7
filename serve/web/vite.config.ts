import { fileURLToPath } from "node:url";
import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import { diagramFrame } from "./vite/diagram-frame.ts";
import { strictCsp } from "./vite/strict-csp.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const server = process.env.RESONANCE_URL ?? "http://127.0.0.1:8000";
// The page's own Host goes on to the server, which takes a page of another host for a foreign one.
const proxied = { target: server, changeOrigin: false };

export default defineConfig({
  plugins: [react(), tailwindcss(), strictCsp(), diagramFrame()],
  resolve: {
    alias: {
      "@": path("./src"),
      // The original adds <style> elements, which the page's Content-Security-Policy refuses.
      "react-style-singleton": path("./src/lib/style-singleton.ts"),
    },
  },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      output: {
        codeSplitting: {
          includeDependenciesRecursively: false,
          // Small views that are seldom opened are less in one file: each alone repeats what the others have.
          groups: [
            // What every visit loads is less in one file than in ten that share no dictionary.
            { name: "page", tags: ["$initial"] },
            {
              name: "panels",
              test: /components\/(share\/share-dialog|documents\/documents-sheet|learned\/learned-sheet|instrument\/(prompt|origin)-sheet|settings\/api-key-dialog|palette\/help-dialog|palette\/command-palette|panel-sheet|share\/shared-view)/,
            },
          ],
        },
      },
    },
  },
  server: {
    proxy: { "/v1": proxied, "/health": proxied },
  },
  test: {
    // Files that need a document say so: `// @vitest-environment jsdom`.
    environment: "node",
    testTimeout: 60_000,
    // Its sources import one another without endings, which only Vite resolves.
    server: { deps: { inline: ["temml"] } },
    include: ["src/**/*.test.{ts,tsx}"],
    setupFiles: ["./tests/setup.ts"],
    css: false,
  },
});
