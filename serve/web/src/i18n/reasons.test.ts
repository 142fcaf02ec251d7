import { expect, test } from "vitest";
import { de } from "./de";
import { en } from "./en";
import { problemIn, reasonIn } from "./reasons";

const why = { subject: null, follows: false };
const problem = { age_s: null, answered: null };

test.each([
  [{ ...why, code: "small_talk" }, "ein Plausch"],
  [{ ...why, code: "named_fact", subject: "Ada Holm" }, "fragt nach etwas über Ada Holm"],
  [
    { ...why, code: "named_fact", subject: "Brakk", follows: true },
    "knüpft an: fragt nach etwas über Brakk",
  ],
] as const)("the reason %j has German words", (reason, expected) => {
  expect(reasonIn(de, reason, "what the server says")).toBe(expected);
});

test.each([
  [{ ...problem, code: "timeout" }, "Die Suche hat zu lange gedauert."],
  [
    { ...problem, code: "timeout", age_s: 7_300 },
    "Die Suche hat zu lange gedauert. Diese Quellen sind von einer früheren Suche (2 Stunden alt).",
  ],
  [
    { ...problem, code: "unreachable", answered: "documents" },
    "Die Suche ist nicht zu erreichen. Diese Quellen sind allein von documents.",
  ],
] as const)("the problem %j has German words", (found, expected) => {
  expect(problemIn(de, "de", found, "what the server says")).toBe(expected);
});

test("what has no code that we know stays as the server said it", () => {
  expect(reasonIn(en, null, "the moon is full")).toBe("the moon is full");
  expect(reasonIn(en, { ...why, code: "new" as "code" }, "the moon is full")).toBe(
    "the moon is full",
  );
  expect(problemIn(en, "en", undefined, "The moon is full.")).toBe("The moon is full.");
});
