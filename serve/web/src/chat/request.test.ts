import { expect, test } from "vitest";
import { defaultSampling } from "@/settings/store";
import { requestSettings, type SearchChoice } from "./request";

const searchOf = (search: SearchChoice) =>
  requestSettings({ model: null, sampling: defaultSampling, search, tokenView: false });

test("the server decides on a search where the reader does not", () => {
  expect(searchOf("auto")).not.toHaveProperty("search");
  expect(searchOf("off").search).toBe(false);
  expect(searchOf("on").search).toBe(true);
  expect(searchOf({ query: "Brakk" }).search).toEqual({ query: "Brakk" });
});
