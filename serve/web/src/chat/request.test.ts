import { expect, test } from "vitest";
import { defaultSampling } from "@/settings/store";
import { placeOf, requestSettings, type SearchChoice } from "./request";
import { append, emptyThread, type Message } from "./tree";

const searchOf = (search: SearchChoice) =>
  requestSettings({ model: null, sampling: defaultSampling, search, tokenView: false });

test("the server decides on a search where the reader does not", () => {
  expect(searchOf("auto")).not.toHaveProperty("search");
  expect(searchOf("off").search).toBe(false);
  expect(searchOf("on").search).toBe(true);
  expect(searchOf({ query: "Brakk" }).search).toEqual({ query: "Brakk" });
});

const question: Message = {
  id: "q",
  parentId: null,
  role: "user",
  content: "Why?",
  createdAt: "2026-01-01T00:00:00Z",
  status: "done",
};

const place = (more: Partial<Message>, system: string, beginning?: string) => {
  const asked = { ...question, ...more };
  return placeOf(append(emptyThread, asked), asked, system, beginning);
};

test("a question that the server has is not sent once more", () => {
  const begun = (content: string) => ({
    messages: [{ role: "assistant", content }],
    parent_id: "m1",
  });
  expect(place({ serverId: "m1" }, "")).toEqual(begun(""));
  expect(place({ serverId: "m1", system: "Be brief." }, " Be brief. ")).toEqual(begun(""));
  expect(place({ serverId: "m1" }, "Be brief.", "Because")).toEqual(begun("Because"));
});

test("a new question, or one under another system prompt, is sent whole", () => {
  const asked = { role: "user", content: "Why?" };
  expect(place({}, "")).toEqual({ messages: [asked], parent_id: null });
  expect(place({ serverId: "m1", system: "Be brief." }, "")).toEqual({
    messages: [asked],
    parent_id: null,
  });
  expect(place({ serverId: "m1" }, "Be brief.").messages).toEqual([
    { role: "system", content: "Be brief." },
    asked,
  ]);
  expect(place({}, "", "Because").messages).toEqual([
    asked,
    { role: "assistant", content: "Because" },
  ]);
});
