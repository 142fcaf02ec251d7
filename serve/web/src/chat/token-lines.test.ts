import { expect, test } from "vitest";
import { linesOf } from "./token-lines";

const tokens = (...texts: string[]) =>
  texts.map((token) => ({ token, logprob: -1, top_logprobs: [] }));

test("a line ends with the token that ends with a line break", () => {
  expect(linesOf(tokens("a", " b", ".\n", "c", "\n\n", "d"))).toEqual([
    { from: 0, to: 3 },
    { from: 3, to: 5 },
    { from: 5, to: 6 },
  ]);
});

test("a line that is finished stays as it is while the text grows", () => {
  const [first] = linesOf(tokens("a\n", "b"));
  expect(linesOf(tokens("a\n", "b", "c", "\n", "d"))[0]).toEqual(first);
});
