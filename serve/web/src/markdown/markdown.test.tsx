// @vitest-environment jsdom
import { act, render as renderAlone, screen } from "@testing-library/react";
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

test("each block runs in the direction of its own first letters, code always from the left", () => {
  render(<Markdown text={"مرحبا بالعالم\n\nHello\n\n- שלום\n- two\n\n```\nx\n```"} />);
  const blocks = [...document.querySelectorAll("p, ul")];
  expect(blocks.map((block) => block.getAttribute("dir"))).toEqual(["auto", "auto", "auto"]);
  // An item has no direction of its own: the list would not look into it.
  expect(document.querySelector("li")?.hasAttribute("dir")).toBe(false);
  expect(document.querySelector("pre")?.closest("[dir]")?.getAttribute("dir")).toBe("ltr");
});

test("footnotes are numbered as they are referred to, and stand at the end with a way back", () => {
  const text = "One[^b] and two[^a].\n\n[^a]: The *second*.\n\n[^b]: The first.\n\nAfter, not[^c].";
  render(<Markdown text={text} />);
  const marks = screen.getAllByRole("link").slice(0, 2);
  expect(marks.map((mark) => mark.textContent)).toEqual(["1", "2"]);
  const notes = [...document.querySelectorAll(".footnotes li")];
  expect(notes.map((note) => note.textContent)).toEqual(["The first. ↩", "The second. ↩"]);
  expect(`#${notes[0]?.id}`).toBe(marks[0]?.getAttribute("href"));
  expect(document.querySelector(".footnotes em")?.textContent).toBe("second");
  expect(document.body.textContent).toContain("not[^c]");
  const back = screen.getByRole("link", { name: "Back to footnote 1 in the text" });
  expect(back.getAttribute("href")).toBe(`#${marks[0]?.id}`);
});

test("a formula that has a line to itself is displayed, be it written on one line or on three", async () => {
  render(<Markdown text={"So\n$$x = 1$$\nand\n\n$$\ny = 2\n$$\n\n- in a list\n\n  $$z$$\n"} />);
  await screen.findByText("x");
  expect(document.querySelectorAll("math")).toHaveLength(3);
  expect(document.querySelectorAll('math[display="block"]')).toHaveLength(3);
});

test("code without a language has no head, and can still be copied", () => {
  render(<Markdown text={"```\nplain\n```"} />);
  const block = document.querySelector("pre")?.parentElement;
  expect(block?.firstElementChild?.className).toContain("absolute");
  expect(screen.getByRole("button", { name: "Copy code" })).toBeTruthy();
});

test("a diagram is drawn in a sandboxed frame once it is whole, and stays code where it cannot be drawn", async () => {
  const text = "```mermaid\ngraph TD; A-->B\n```";
  const { rerender } = render(<Markdown text={text} live />);
  expect(document.querySelector("iframe")).toBeNull();
  rerender(<Markdown text={text} />);
  const frame = screen.getByTitle("Diagram") as HTMLIFrameElement;
  expect(frame.getAttribute("sandbox")).toBe("allow-scripts");
  const said = (data: object) =>
    act(() => {
      window.dispatchEvent(new MessageEvent("message", { data, source: frame.contentWindow }));
    });
  said({ height: 120 });
  expect(frame.getAttribute("style")).not.toBe("");
  said({ failed: true });
  expect(document.querySelector("iframe")).toBeNull();
  expect(document.querySelector("pre")?.textContent).toBe("graph TD; A-->B");
});
