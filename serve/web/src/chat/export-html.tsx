import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import type { Role } from "@/api/types";
import { Markdown, prepareMarkdown } from "@/markdown/markdown";

const STYLE = `
:root { color-scheme: light dark; }
body { font: 16px/1.65 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; text-wrap: balance; }
article { margin-block: 1.5rem; overflow-wrap: anywhere; }
article.user { width: fit-content; max-width: 85%; margin-inline-start: auto; padding: .6rem 1.1rem;
  border-radius: 1.4rem; background: #0b7a7522; white-space: pre-wrap; }
pre { overflow-x: auto; padding: 1rem; border-radius: .8rem; background: #8882; }
code { font: .87em ui-monospace, monospace; }
blockquote { margin-inline: 0; padding-inline-start: 1rem; border-inline-start: 3px solid #0b7a7588; }
table { border-collapse: collapse; } th, td { padding: .4em .8em; border-bottom: 1px solid #8886; text-align: start; }
.footnotes { margin-top: 1.5rem; border-top: 1px solid #8886; font-size: .9em; }
small { color: GrayText; }
`;

/** One HTML file that holds a conversation as it is read, and runs and loads nothing. */
export async function writeHtml(
  title: string,
  messages: { role: Role; content: string }[],
  note: string,
): Promise<string> {
  const parts: string[] = [];
  for (const { role, content } of messages) {
    const body = role === "user" ? escaped(content) : await rendered(content);
    parts.push(`<article class="${role}" dir="auto">${body}</article>`);
  }
  return `<!doctype html>
<html lang="${document.documentElement.lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1 dir="auto">${escaped(title)}</h1>
${parts.join("\n")}
<small>${escaped(note)}</small>
</body>
</html>
`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

/** An answer's Markdown as HTML, with its formulas and without anything to press. */
async function rendered(text: string): Promise<string> {
  await prepareMarkdown(text);
  const place = document.createElement("div");
  const root = createRoot(place);
  flushSync(() => root.render(<Markdown text={text} plain />));
  const html = place.innerHTML;
  root.unmount();
  return html;
}
