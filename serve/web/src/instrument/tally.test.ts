import { expect, test } from "vitest";
import type { Choice, Vote } from "@/api/votes";
import { tallyOf } from "./tally";

const warm = { model: "demo", settings: { temperature: 1, seed: 1 } };
const cold = { model: "demo", settings: { temperature: 0, seed: 1 } };
const other = { model: "other", settings: { temperature: 0 } };

const vote = (a: typeof warm | typeof other, b: typeof warm | typeof other, choice: Choice) =>
  ({ a, b, choice }) as unknown as Vote;

test("votes count for the checkpoint and its settings, whichever side they stood on", () => {
  const votes = [
    vote(warm, cold, "a"),
    vote(cold, warm, "b"),
    vote(cold, warm, "tie"),
    vote(other, cold, "a"),
  ];
  expect(tallyOf(votes, warm, cold)).toEqual({ a: 2, b: 0, tie: 1 });
  expect(tallyOf(votes, cold, warm)).toEqual({ a: 0, b: 2, tie: 1 });
});

test("another seed is the same contender, another temperature is not", () => {
  const reseeded = { ...warm, settings: { temperature: 1, seed: 9 } };
  expect(tallyOf([vote(reseeded, cold, "a")], warm, cold).a).toBe(1);
  const hotter = { ...warm, settings: { temperature: 1.5, seed: 1 } };
  expect(tallyOf([vote(hotter, cold, "a")], warm, cold).a).toBe(0);
});

test("what the server left empty is the same as what the page does not say", () => {
  const stored = { model: "demo", settings: { temperature: 1, min_p: null, seed: 1 } };
  expect(tallyOf([vote(stored as never, cold, "a")], warm, cold).a).toBe(1);
});
