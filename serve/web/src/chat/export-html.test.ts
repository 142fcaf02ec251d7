// @vitest-environment jsdom
import { expect, test } from "vitest";
import { writeHtml } from "./export-html";

test("a conversation becomes one file with its formulas, and nothing in it runs or is loaded", async () => {
  const html = await writeHtml(
    "A <title>",
    [
      { role: "user", content: "<script>alert(1)</script>" },
      {
        role: "assistant",
        content: "**Bold** and \\(x^2\\)\n\n```js\nf()\n```\n\n```mermaid\na-->b\n```",
      },
    ],
    "A note.",
  );
  const file = new DOMParser().parseFromString(html, "text/html");
  expect(file.title).toBe("A <title>");
  expect(file.querySelector("article.user")?.textContent).toBe("<script>alert(1)</script>");
  expect(file.querySelector("strong")?.textContent).toBe("Bold");
  expect(file.querySelectorAll("math")).toHaveLength(1);
  expect([...file.querySelectorAll("pre")].map((pre) => pre.textContent)).toEqual(["f()", "a-->b"]);
  expect(file.querySelector("script, button, iframe, img, link")).toBeNull();
});
