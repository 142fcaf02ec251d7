// @vitest-environment jsdom
import { render as renderAlone, screen } from "@testing-library/react";
import type { ReactElement } from "react";
import { expect, test } from "vitest";
import { TooltipProvider } from "@/components/ui/tooltip";
import { Markdown } from "./markdown";

const render = (element: ReactElement) => renderAlone(element, { wrapper: TooltipProvider });

test("tables, task lists and strike-through of GitHub's Markdown are set", () => {
  render(<Markdown text={"| a |\n|---|\n| 1 |\n\n- [x] done\n\n~~gone~~"} />);
  expect(screen.getByRole("table")).toBeTruthy();
  expect(screen.getByRole("checkbox")).toBeTruthy();
  expect(document.querySelector("del")?.textContent).toBe("gone");
});

test("raw HTML is shown as text and never becomes an element", () => {
  render(<Markdown text={'Look: <img src=x onerror="alert(1)"> <script>alert(2)</script>'} />);
  expect(document.querySelector("img, script")).toBeNull();
  expect(document.body.textContent).toContain("<script>");
});

test("a link that would run a script loses its address", () => {
  render(<Markdown text={"[press](javascript:alert(1))"} />);
  expect(screen.getByText("press").getAttribute("href") ?? "").not.toContain("javascript");
});

test("a picture from elsewhere becomes a link and is not loaded", () => {
  render(<Markdown text={"![a cat](https://example.org/cat.png)"} />);
  expect(document.querySelector("img")).toBeNull();
  expect(screen.getByRole("link", { name: "a cat" })).toBeTruthy();
});

test("a number in brackets links to its source, and only where there is such a source", () => {
  render(<Markdown text="It is so [1], they say [7]." citations={{ ids: ["1"], anchor: "s" }} />);
  expect(screen.getByRole("link", { name: "1" }).getAttribute("href")).toBe("#s-1");
  expect(document.body.textContent).toContain("[7]");
});

test("code is coloured once its highlighter has loaded, and keeps its text", async () => {
  render(<Markdown text={"```python\ndef f():\n    return 1\n```"} />);
  const keyword = await screen.findByText("def");
  expect(keyword.className).toContain("hljs-keyword");
  expect(document.querySelector("pre")?.textContent).toBe("def f():\n    return 1");
});

test("formulas become MathML, and prices stay prices", async () => {
  render(<Markdown text={"Area \\(\\pi r^2\\), for $5 or $6.\n\n$$\nx = 1\n$$"} />);
  await screen.findByText("π");
  expect(document.querySelectorAll("math")).toHaveLength(2);
  expect(document.body.textContent).toContain("for $5 or $6.");
});

test("lone dollars around a formula set it, but not around prices, names or code", async () => {
  render(<Markdown text={"So $E = mc^2$ and $x$, not $5–$6, $HOME/$USER, \\$1\\$ or `$y$`."} />);
  await screen.findByText("E");
  expect(document.querySelectorAll("math")).toHaveLength(2);
  expect(document.body.textContent).toContain("not $5–$6, $HOME/$USER, $1$ or $y$.");
});

test("a list written without gaps has no paragraphs, and one with gaps has them", () => {
  render(<Markdown text={"3. three\n4. four"} />);
  expect(document.querySelector("ol")?.getAttribute("start")).toBe("3");
  expect(document.querySelectorAll("li p")).toHaveLength(0);
  render(<Markdown text={"- one\n\n- two"} />);
  expect(document.querySelectorAll("li p")).toHaveLength(2);
});

test("a table's columns are set as its second line says", () => {
  render(<Markdown text={"| a | b |\n|--:|---|\n| 1 | 2 |"} />);
  expect(screen.getAllByRole("cell")).toHaveLength(2);
});

test("a link may stand at the end of the text that refers to it", () => {
  render(<Markdown text={"See [the page][p].\n\n[p]: https://example.org/x"} />);
  const link = screen.getByRole("link", { name: "the page" });
  expect(link.getAttribute("href")).toBe("https://example.org/x");
});
