import { expect, test } from "vitest";
import { linesOf } from "./exchange";

const one = { id: "a", messages: [{ role: "user", content: "Hi\nthere" }] };

test.each([
  ["one conversation, as the page exports it", JSON.stringify(one, null, 2), 1],
  ["a list of conversations", JSON.stringify([one, one], null, 2), 2],
  ["one line of training data", `${JSON.stringify(one)}\n`, 1],
  ["lines of training data", `${JSON.stringify(one)}\n\n${JSON.stringify(one)}\n`, 2],
])("%s comes in line by line", (_, text, count) => {
  const lines = linesOf(text);
  expect(lines.map((line) => JSON.parse(line))).toEqual(Array(count).fill(one));
});
