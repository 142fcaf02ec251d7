import { expect, test } from "vitest";
import { conversationHref, parseRoute } from "./router";

test("a deep link names its conversation, whatever characters its id has", () => {
  const id = "a.b_c-1";
  expect(parseRoute(conversationHref(id), "")).toEqual({ mode: "chat", conversation: id });
});

test("an unknown address is the new chat", () => {
  expect(parseRoute("/elsewhere", "?x=1")).toEqual({ mode: "chat", conversation: null });
});

test("the tools have addresses of their own", () => {
  expect(parseRoute("/", "?mode=compare").mode).toBe("compare");
  expect(parseRoute("/", "?mode=complete").mode).toBe("complete");
});
