import { expect, test } from "vitest";
import { type Block, BlockSplitter } from "./blocks";

const textsOf = (blocks: Block[]) => blocks.map((block) => block.text);

const TEXT = `# Title

A paragraph
of two lines.

- one
- two

  still two

| a | b |
|---|---|
| 1 | 2 |

\`\`\`python
x = 1

y = 2
\`\`\`

The end.`;

test("a text is cut into its top-level blocks", () => {
  expect(textsOf(new BlockSplitter().split(TEXT))).toEqual([
    "# Title",
    "A paragraph\nof two lines.",
    "- one\n- two\n\n  still two",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "```python\nx = 1\n\ny = 2\n```",
    "The end.",
  ]);
});

test("a text that grows by single characters ends up cut as the whole text is", () => {
  const splitter = new BlockSplitter();
  for (let i = 1; i < TEXT.length; i += 1) splitter.split(TEXT.slice(0, i));
  expect(textsOf(splitter.split(TEXT))).toEqual(textsOf(new BlockSplitter().split(TEXT)));
});

test("a finished block never changes while the text grows", () => {
  const splitter = new BlockSplitter();
  let before: Block[] = [];
  for (let i = 1; i <= TEXT.length; i += 1) {
    const now = splitter.split(TEXT.slice(0, i));
    const finished = before.slice(0, -1);
    expect(finished.every((block, at) => block === now[at])).toBe(true);
    before = now;
  }
});

test("another text starts anew", () => {
  const splitter = new BlockSplitter();
  splitter.split("One.\n\nTwo.\n\nThree.");
  expect(textsOf(splitter.split("Other.\n\nText."))).toEqual(["Other.", "Text."]);
});
