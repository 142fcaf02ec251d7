import { expect, test } from "vitest";
import type { Conversation } from "@/api/types";
import { systemIn } from "./choices";
import { threadFromServer } from "./from-server";
import { formatField, placeOf, requestSettings, type SearchChoice } from "./request";
import { append, emptyThread, type Message } from "./tree";

const searchOf = (search: SearchChoice) =>
  requestSettings({ model: null, sampling: {}, search, tokenView: false });

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

test("only what the reader changed is asked for; the rest is the server's", () => {
  const asked = (sampling: object) =>
    requestSettings({ model: null, sampling, search: "auto", tokenView: false });
  expect(asked({})).toEqual({ stream_options: { include_usage: true } });
  expect(asked({ min_p: 0.1, seed: null, stop: [] })).toEqual({
    min_p: 0.1,
    stream_options: { include_usage: true },
  });
  expect(asked({ seed: 0, stop: ["END"] })).toMatchObject({ seed: 0, stop: ["END"] });
});

test("a format is asked for as the API has it, and a schema that is none asks for nothing", () => {
  expect(formatField({ type: "text", schema: "{}" })).toBeUndefined();
  expect(formatField({ type: "json_object", schema: "" })).toEqual({ type: "json_object" });
  expect(formatField({ type: "json_schema", schema: '{"type": "object"}' })).toEqual({
    type: "json_schema",
    json_schema: { name: "answer", schema: { type: "object" } },
  });
  expect(formatField({ type: "json_schema", schema: "[1" })).toBeUndefined();
});

test("a system prompt stays a conversation's own until another is chosen for it", () => {
  const row = { created_at: "2026-01-01T00:00:00Z" };
  const messages: Conversation["messages"] = [
    { ...row, id: "s", parent_id: null, role: "system", content: "Be brief." },
    { ...row, id: "q", parent_id: "s", role: "user", content: "Why?" },
    { ...row, id: "a", parent_id: "q", role: "assistant", content: "So." },
  ];
  const dates = { created_at: row.created_at, updated_at: row.created_at };
  const stored = threadFromServer({ id: "c", title: "", message_count: 3, ...dates, messages });
  expect(systemIn(stored, undefined, "Of new chats.")).toBe("Be brief.");
  expect(systemIn(stored, "Be rude.", "")).toBe("Be rude.");
  expect(systemIn(emptyThread, undefined, " Of new chats. ")).toBe("Of new chats.");
  const next: Message = { ...question, id: "n", parentId: "a", content: "And?" };
  const thread = append(stored, next);
  const asked = { role: "user", content: "And?" };
  expect(placeOf(thread, next, "Be brief.").messages).toEqual([asked]);
  expect(placeOf(thread, next, "").messages).toEqual([{ role: "system", content: "" }, asked]);
  expect(placeOf(thread, next, "Be rude.")).toEqual({
    messages: [{ role: "system", content: "Be rude." }, asked],
    parent_id: "a",
  });
});

test("what had come of an answer that was lost with its server is stored with the next question", () => {
  const turn = (id: string, parentId: string | null, more: Partial<Message> = {}): Message => {
    return { ...question, id, parentId, serverId: id, ...more };
  };
  const lost = turn("lost", "q", { role: "assistant", content: "So f", status: "dropped" });
  const next = turn("next", "lost", { content: "And?", serverId: undefined });
  const thread = [turn("q", null), lost, next].reduce(append, emptyThread);
  expect(placeOf(thread, next, "")).toEqual({
    messages: [
      { role: "assistant", content: "So f" },
      { role: "user", content: "And?" },
    ],
    parent_id: "q",
  });
});
