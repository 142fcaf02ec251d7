import { expect, test } from "vitest";
import { conversation } from "../../tests/fake-server";
import { writeConversation } from "./export";

test("Markdown has a heading for the conversation and one for each speaker", () => {
  const text = writeConversation(conversation, "md");
  expect(text).toMatch(/^# Capitals\n\n## User\n\nWhat is the capital of France\?\n\n## Assistant/);
});

test("JSONL is one line of messages as training reads them", () => {
  const lines = writeConversation(conversation, "jsonl").trimEnd().split("\n");
  expect(lines).toHaveLength(1);
  expect(JSON.parse(lines[0] as string)).toEqual({
    messages: [
      { role: "user", content: "What is the capital of France?" },
      { role: "assistant", content: "The capital of France is **Paris** [1]." },
    ],
  });
});

test("a corrected answer takes the place of the model's in training data", () => {
  const [question, answer] = conversation.messages;
  const corrected = {
    ...conversation,
    messages: [question, { ...answer, feedback: { rating: -1, correction: "Paris." } }],
  } as typeof conversation;
  expect(writeConversation(corrected, "jsonl")).toContain('"content":"Paris."');
});

test("JSON reads back as the conversation that the server sent", () => {
  expect(JSON.parse(writeConversation(conversation, "json"))).toEqual(conversation);
});
