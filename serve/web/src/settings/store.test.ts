import { expect, test } from "vitest";
import { fromFirstVersion, nextSearch } from "./store";

test("who had the search on keeps it on, and who had not leaves it to the server", () => {
  expect(fromFirstVersion({ theme: "dark", search: true })).toMatchObject({
    theme: "dark",
    search: "on",
  });
  expect(fromFirstVersion({ search: false }).search).toBe("auto");
  expect(fromFirstVersion({}).search).toBe("auto");
});

test("the modes of the search go round", () => {
  expect([nextSearch("off"), nextSearch("auto"), nextSearch("on")]).toEqual(["auto", "on", "off"]);
});
