import { expect, test } from "vitest";
import { groupByDay } from "./group-by-day";

const NOW = new Date(2026, 4, 20, 9, 30);

const at = (date: Date) => ({
  id: date.toISOString(),
  title: "t",
  created_at: date.toISOString(),
  updated_at: date.toISOString(),
  message_count: 2,
});

test("conversations stand under the reader's own days, newest first", () => {
  const groups = groupByDay(
    [
      at(new Date(2026, 4, 20, 0, 0)),
      at(new Date(2026, 4, 19, 23, 59)),
      at(new Date(2026, 4, 19, 0, 0)),
      at(new Date(2026, 4, 13, 12, 0)),
      at(new Date(2026, 3, 25, 12, 0)),
      at(new Date(2025, 4, 20, 12, 0)),
    ],
    NOW,
  );
  expect(groups.map(([period, list]) => [period, list.length])).toEqual([
    ["today", 1],
    ["yesterday", 2],
    ["lastWeek", 1],
    ["lastMonth", 1],
    ["earlier", 1],
  ]);
});

test("a clock that is a little behind the server's still says today", () => {
  expect(groupByDay([at(new Date(2026, 4, 20, 9, 31))], NOW)[0]?.[0]).toBe("today");
});
