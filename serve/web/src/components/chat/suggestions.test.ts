import { expect, test } from "vitest";
import { suggestionsFor } from "./suggestions";

test("what a checkpoint is best at is suggested first", () => {
  const families = ["reading", "sums", "capitals", "opposites", "animals", "sorting"];
  const titles = suggestionsFor({ data: "basics", steps: 500, families }).map(({ title }) => title);
  expect(titles).toEqual(["kindSums", "kindCapitals", "kindOpposites", "kindAnimals"]);
});

test("a checkpoint that has not been scored gets questions of its data's kind", () => {
  expect(suggestionsFor({ data: "alpaca", families: [] })[0]?.title).toBe("kindRewrite");
  expect(suggestionsFor({ data: null, steps: 0, families: [] })[0]?.title).toBe("kindStory");
});
