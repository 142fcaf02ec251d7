import { expect, test } from "vitest";
import { de } from "./de";
import { en } from "./en";
import { reasonIn } from "./reasons";

test.each([
  ["small talk", "ein Plausch"],
  ["asks for a fact about Ada Holm", "fragt nach etwas über Ada Holm"],
  ["asks for something that changes (today)", "fragt nach etwas, das sich ändert (today)"],
  ["follows: asks about Brakk", "knüpft an: fragt nach Brakk"],
  ["follows a message that needs no search (small talk)", de.reasonFollowsNone],
])("the reason %j has German words", (reason, expected) => {
  expect(reasonIn(de, reason)).toBe(expected);
});

test("a reason that nobody knows stays as the server said it", () => {
  expect(reasonIn(en, "the moon is full")).toBe("the moon is full");
});
