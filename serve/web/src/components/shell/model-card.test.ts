import { expect, test } from "vitest";
import { en } from "@/i18n/en";
import { cardLines } from "./model-card";

test("a card says what is known, scores as shares, and leaves out what is not", () => {
  const lines = cardLines(
    {
      template: "alpaca",
      parameters: 124_439_808,
      base: null,
      data: "/home/me/data/mine.json",
      steps: 0,
      run: { folder: "checkpoints/demo", url: null },
      scores: { instruct: { exact_match: { value: 0.875 } }, perplexity: { value: 12.345 } },
    },
    en,
    "en",
  );
  expect(lines).toEqual([
    ["Parameters", "124.4M"],
    ["Data", "…/data/mine.json"],
    ["Template", "alpaca"],
    ["Run", "checkpoints/demo"],
    ["instruct", "87.5%"],
    ["perplexity", "12.3"],
  ]);
});
