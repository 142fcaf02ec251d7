import { expect, test } from "vitest";
import { markPrompt } from "./prompt-marks";

const tokens = ["### Ask:", "\n", "Name", " a sea", ".", "\n\n", "### Say:", "<|endoftext|>"].map(
  (text, id) => ({ id, text }),
);

test("what stands in no message was added", () => {
  const added = markPrompt(tokens, ["Name a sea."]).filter((piece) => piece.added);
  expect(added.map((piece) => piece.text)).toEqual([
    "### Ask:",
    "\n",
    "\n\n",
    "### Say:",
    "<|endoftext|>",
  ]);
});

test("a special token is told from text", () => {
  const special = markPrompt(tokens, []).filter((piece) => piece.special);
  expect(special.map((piece) => piece.text)).toEqual(["<|endoftext|>"]);
});

test("a message that the prompt lacks hides nothing", () => {
  const withDropped = markPrompt(tokens, ["An old question", "Name a sea."]);
  expect(withDropped).toEqual(markPrompt(tokens, ["Name a sea."]));
});
