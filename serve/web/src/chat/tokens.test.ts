import { expect, test } from "vitest";
import type { TokenLogprob } from "@/api/types";
import { forkAt, textOfTokens } from "./tokens";

const token = (text: string, bytes?: number[]): TokenLogprob => ({
  token: text,
  bytes,
  logprob: -0.5,
  top_logprobs: [{ token: " else", logprob: -1 }],
});

test("a fork keeps what stood before, and ends with the alternative", () => {
  const fork = forkAt([token("The"), token(" sea"), token(".")], 1, {
    token: " tide",
    logprob: -2,
  });
  expect(fork?.content).toBe("The tide");
  expect(fork?.tokens).toHaveLength(2);
  expect(fork?.tokens[1]).toMatchObject({ token: " tide", logprob: -2 });
  expect(fork?.tokens[1]?.top_logprobs).toEqual([{ token: " else", logprob: -1 }]);
});

test("a character that is spread over two tokens is read whole", () => {
  const [first, second] = [token("\ufffd", [0xf0, 0x9f]), token("\ufffd", [0x8c, 0x8a])];
  expect(textOfTokens([first, second])).toBe("🌊");
});

test("there is no fork within a character", () => {
  expect(forkAt([token("a")], 0, { token: "\ufffd", bytes: [0xf0], logprob: -3 })).toBeNull();
});
