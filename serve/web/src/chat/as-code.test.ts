import { expect, test } from "vitest";
import { asCurl, asPython } from "./as-code";

const body = {
  messages: [{ role: "user" as const, content: "What's new?" }],
  temperature: 0.5,
  top_k: 40,
  search: true,
};

test("the shell reads an apostrophe in a curl command as an apostrophe", () => {
  expect(asCurl("http://localhost:8000", body)).toContain("What'\\''s new?");
});

test("Python gets what OpenAI's client does not know in extra_body, in Python's own words", () => {
  const code = asPython("http://localhost:8000", body);
  expect(code).toContain('base_url="http://localhost:8000/v1"');
  expect(code).toContain('extra_body={"top_k":40,"search":True}');
  expect(code).not.toContain("seed=");
});
