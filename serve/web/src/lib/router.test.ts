import { expect, test } from "vitest";
import { conversationHref, parseDocument, parseRoute } from "./router";

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

test("a shared conversation and a document's passage have addresses, a temporary chat has one mode", () => {
  expect(parseRoute("/s/aB-_9", "")).toMatchObject({ mode: "shared", shared: "aB-_9" });
  expect(parseRoute("/d/file-1/12/notes.md", "")).toMatchObject({
    mode: "chat",
    document: { id: "file-1", passage: 12 },
  });
  expect(parseDocument("/d/file-1")).toEqual({ id: "file-1", passage: null });
  expect(parseDocument("https://example.org/d/file-1/2/x")).toBeUndefined();
  expect(parseRoute("/", "?mode=temporary").mode).toBe("temporary");
});
