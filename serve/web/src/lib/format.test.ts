import { expect, test } from "vitest";
import { formatCount, formatNumber, formatShare } from "./format";

test("numbers have the decimal sign of the page's language", () => {
  expect([formatCount(124_439_808), formatCount(124_439_808, "de")]).toEqual(["124.4M", "124,4M"]);
  expect([formatShare(0.875, "en"), formatShare(0.875, "de")]).toEqual(["87.5%", "87,5\u00a0%"]);
  expect(formatNumber(12.345, "de")).toBe("12,3");
});
