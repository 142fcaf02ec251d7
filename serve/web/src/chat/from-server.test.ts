import { expect, test } from "vitest";
import type { Conversation, StoredMessage } from "@/api/types";
import { threadFromServer } from "./from-server";
import { pathOf, siblingsOf } from "./tree";

const stored = (id: string, parent_id: string | null, content: string): StoredMessage => ({
  id,
  parent_id,
  role: id.startsWith("s") ? "system" : id.startsWith("q") ? "user" : "assistant",
  content,
  created_at: "2026-01-01T00:00:00Z",
});

const conversation = (...messages: StoredMessage[]): Conversation => ({
  id: "c",
  title: "t",
  created_at: "",
  updated_at: "",
  message_count: messages.length,
  messages,
});

test("a question that was asked again shows its answers as siblings", () => {
  const thread = threadFromServer(
    conversation(
      stored("q1", null, "Why?"),
      stored("a1", "q1", "Because."),
      stored("q2", null, "Why?"),
      stored("a2", "q2", "Therefore."),
    ),
  );
  expect(pathOf(thread)).toEqual(["q1", "a2"]);
  expect(siblingsOf(thread, "a2")).toEqual(["a1", "a2"]);
});

test("what follows an answer to a repeated question hangs on that answer", () => {
  const thread = threadFromServer(
    conversation(
      stored("q1", null, "Why?"),
      stored("a1", "q1", "Because."),
      stored("q2", null, "Why?"),
      stored("a2", "q2", "Therefore."),
      stored("q3", "a1", "And then?"),
    ),
  );
  expect(thread.byId.q3?.parentId).toBe("a1");
});

test("the system prompt is not shown, and the question after it comes first", () => {
  const thread = threadFromServer(
    conversation(
      stored("s1", null, "Be brief."),
      stored("q1", "s1", "Hi"),
      stored("a1", "q1", "Hi."),
    ),
  );
  expect(pathOf(thread)).toEqual(["q1", "a1"]);
  expect(thread.byId.q1?.system).toBe("Be brief.");
});

test("how fast an answer was written is still known", () => {
  const thread = threadFromServer(
    conversation(stored("q1", null, "Hi"), {
      ...stored("a1", "q1", "Hello"),
      timing: { first_token_s: 0.25, tokens_per_s: 80 },
    }),
  );
  expect(thread.byId.a1?.timing).toEqual({ firstToken: 0.25, tokensPerSecond: 80 });
});

test("a stopped answer is known as stopped", () => {
  const thread = threadFromServer(
    conversation(stored("q1", null, "Hi"), {
      ...stored("a1", "q1", "He"),
      finish_reason: "cancelled",
    }),
  );
  expect(thread.byId.a1?.status).toBe("stopped");
});
