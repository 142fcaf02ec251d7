import { beforeEach, expect, test } from "vitest";
import { linesOfStops, stopsOfLines } from "@/components/settings/stops";
import { fromOlderVersion, nextSearch, setOwn, useSettings } from "./store";

beforeEach(() => useSettings.setState(useSettings.getInitialState()));

test("who had the search on keeps it on, and who had not leaves it to the server", () => {
  expect(fromOlderVersion({ theme: "dark", search: true }, 1)).toMatchObject({
    theme: "dark",
    search: "on",
  });
  expect(fromOlderVersion({ search: false }, 1).search).toBe("auto");
  expect(fromOlderVersion({}, 1).search).toBe("auto");
  expect(fromOlderVersion({ search: "off" }, 2).search).toBe("off");
});

test("what a reader of an older version never changed is the server's from now on", () => {
  const sampling = { temperature: 0.2, top_p: 0.95, top_k: 0, max_tokens: 256, seed: null };
  expect(fromOlderVersion({ search: "auto", sampling }, 2).sampling).toEqual({ temperature: 0.2 });
});

test("the modes of the search go round", () => {
  expect([nextSearch("off"), nextSearch("auto"), nextSearch("on")]).toEqual(["auto", "on", "off"]);
});

test("what is chosen for one conversation holds for it, and the oldest choices go", () => {
  setOwn("a", { model: "tiny" });
  setOwn("a", { system: "Be brief." });
  expect(useSettings.getState().own.a).toEqual({ model: "tiny", system: "Be brief." });
  for (let i = 0; i < 300; i += 1) setOwn(`c${i}`, { model: "other" });
  expect(Object.keys(useSettings.getState().own)).toHaveLength(200);
  expect(useSettings.getState().own.c299).toEqual({ model: "other" });
});

test("texts to stop at are written one a line, with line breaks as \\n, at most four", () => {
  expect(stopsOfLines("END\n\\n\\nUser:\n")).toEqual(["END", "\n\nUser:"]);
  expect(stopsOfLines(linesOfStops(["a\\n", "b\nc"]))).toEqual(["a\\n", "b\nc"]);
  expect(stopsOfLines("a\nb\nc\nd\ne")).toHaveLength(4);
});
