import { expect, test } from "vitest";
import { conversationHref, parseRoute } from "./router";

test("a deep link names its conversation, whatever characters its id has", () => {
  const id = "a.b_c-1";
  expect(parseRoute(conversationHref(id), "")).toMatchObject({ mode: "chat", conversation: id });
});

test("an unknown address is the new chat", () => {
  expect(parseRoute("/elsewhere", "?x=1")).toMatchObject({ mode: "chat", conversation: null });
  expect(parseRoute("/c/%E0%A4%A", "").conversation).toBeNull();
});

test("a link may name a message", () => {
  const [pathname, hash] = conversationHref("a", "m 1").split("#");
  expect(parseRoute(pathname ?? "", "", `#${hash}`).message).toBe("m 1");
  expect(parseRoute("/c/a", "").message).toBeNull();
});

test("the tools have addresses of their own", () => {
  expect(parseRoute("/", "?mode=compare").mode).toBe("compare");
  expect(parseRoute("/", "?mode=complete").mode).toBe("complete");
});
