import { expect, test } from "vitest";
import { asCurl, asPython } from "./as-code";

const body = {
  messages: [{ role: "user" as const, content: "What's new?" }],
  temperature: 0.5,
  top_k: 40,
  search: true,
};

test("the shell reads an apostrophe in a curl command as an apostrophe", () => {
  expect(asCurl("http://localhost:8000", body, false)).toContain("What'\\''s new?");
});

test("Python gets what OpenAI's client does not know in extra_body, in Python's own words", () => {
  const code = asPython("http://localhost:8000", body, false);
  expect(code).toContain('base_url="http://localhost:8000/v1"');
  expect(code).toContain('extra_body={"top_k":40,"search":True}');
  expect(code).not.toContain("seed=");
});

test("where a key is asked for, both take it from the environment", () => {
  const curl = asCurl("http://localhost:8000", body, true);
  expect(curl).toContain('-H "Authorization: Bearer $RESONANCE_API_KEY"');
  const code = asPython("http://localhost:8000", body, true);
  expect(code).toContain('api_key=os.environ["RESONANCE_API_KEY"]');
  expect(code).toMatch(/^import os\n/);
});
