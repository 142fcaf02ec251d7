import { expect, test } from "vitest";
import { compareWords } from "./words-diff";

const only = (stretches: { text: string; only: boolean }[]) =>
  stretches.filter((stretch) => stretch.only).map((stretch) => stretch.text.trim());

test("words that one side lacks are marked on the other", () => {
  const [a, b] = compareWords("The cat sat down.", "The black cat sat up.");
  expect(only(a)).toEqual(["down."]);
  expect(only(b)).toEqual(["black", "up."]);
});

test("equal texts have no marks", () => {
  const [a, b] = compareWords("Same words.", "Same words.");
  expect([...only(a), ...only(b)]).toEqual([]);
});

test("no character of either text is lost", () => {
  const left = " One  two\n\nthree ";
  const right = "two four\tthree";
  const [a, b] = compareWords(left, right);
  expect(a.map((stretch) => stretch.text).join("")).toBe(left);
  expect(b.map((stretch) => stretch.text).join("")).toBe(right);
});
