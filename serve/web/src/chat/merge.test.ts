// @vitest-environment jsdom
import { beforeEach, expect, test } from "vitest";
import type { Conversation, StoredMessage } from "@/api/types";
import { keepBranches, showBranches } from "./branches";
import { heldConversations, keep, keptOf, noteKept, releaseAll, useKept } from "./kept";
import { mergeThread, restoreKept } from "./merge";
import { append, choose, emptyThread, type Message, pathOf, type Thread } from "./tree";

const at = "2026-01-01T00:00:00.000Z";
const usage = { prompt_tokens: 1, completion_tokens: 9, total_tokens: 10 };

function stored(...messages: Partial<StoredMessage>[]): Conversation {
  const full = messages.map(
    (message, i): StoredMessage => ({
      id: `s${i}`,
      parent_id: i ? `s${i - 1}` : null,
      role: i % 2 ? "assistant" : "user",
      content: `text ${i}`,
      created_at: at,
      usage,
      ...message,
    }),
  );
  const dates = { created_at: at, updated_at: at };
  return { id: "c", title: "t", ...dates, message_count: full.length, messages: full };
}

const message = (more: Partial<Message>): Message => ({
  id: "q",
  parentId: null,
  role: "user",
  content: "text 0",
  createdAt: at,
  status: "done",
  ...more,
});

const contents = (thread: Thread) => pathOf(thread).map((id) => thread.byId[id]?.content);

beforeEach(() => localStorage.clear());

test("what another tab wrote is shown, and what was here keeps its id on the page", () => {
  const here = append(emptyThread, message({ id: "local", serverId: "s0" }));
  const merged = mergeThread(here, stored({}, {}, {}, {}));
  expect(pathOf(merged)).toEqual(["local", "s1", "s2", "s3"]);
  expect(merged.byId.s1?.parentId).toBe("local");
});

test("a newer version is shown where the newest was, and not where an older one was chosen", () => {
  const first = mergeThread(emptyThread, stored({}, {}));
  const again = stored({}, {}, { id: "new", parent_id: "s0", role: "assistant", content: "new" });
  expect(contents(mergeThread(first, again))).toEqual(["text 0", "new"]);
  const older = choose(mergeThread(emptyThread, again), "s1");
  const third = { id: "third", parent_id: "s0", role: "assistant" as const, content: "third" };
  const all = { ...again, messages: [...again.messages, ...stored(third).messages] };
  expect(contents(mergeThread(older, all))).toEqual(["text 0", "text 1"]);
});

test("what was deleted elsewhere goes, and what was never stored stays", () => {
  let here = mergeThread(emptyThread, stored({}, {}, {}, {}));
  here = append(here, message({ id: "refused", parentId: "s1", content: "too long" }));
  const error = { status: "failed" as const, error: "Too long." };
  here = append(here, message({ id: "a", parentId: "refused", role: "assistant", ...error }));
  const merged = mergeThread(here, stored({}, {}));
  expect(contents(merged)).toEqual(["text 0", "text 1", "too long", "text 0"]);
  expect(merged.byId.s3).toBeUndefined();
});

test("a question that the server took without saying so is not shown twice", () => {
  const here = append(emptyThread, message({ id: "local" }));
  expect(pathOf(mergeThread(here, stored({})))).toEqual(["local"]);
});

test("what the reader is about to delete does not come back", () => {
  const here = mergeThread(emptyThread, stored({}));
  expect(pathOf(mergeThread(here, stored({}, {}), new Set(["s1"])))).toEqual(["s0"]);
});

test("after a reload a refused question is where it was, and a cut answer keeps what had come", () => {
  let here = mergeThread(emptyThread, stored({}, {}));
  const question = message({ id: "q", serverId: "s2", parentId: "s1", content: "Go on" });
  here = append(here, question);
  const answer = { role: "assistant" as const, content: "It had come so f", tokens: [] };
  const cut = message({
    id: "local",
    serverId: "s3",
    parentId: "q",
    status: "streaming",
    ...answer,
  });
  here = append(here, cut);
  here = append(here, message({ id: "refused", parentId: "local", content: "too long" }));
  for (const id of ["local", "refused"]) keep("c", here, here.byId[id] as Message);
  const loaded = mergeThread(emptyThread, stored({}, {}, { content: "Go on" }));
  const restored = restoreKept(loaded, keptOf("c"));
  expect(contents(restored)).toEqual(["text 0", "text 1", "Go on", "It had come so f", "too long"]);
  expect(restored.byId.s3?.status).toBe("dropped");
  // The server has it after all.
  const whole = mergeThread(emptyThread, stored({}, {}, { content: "Go on" }, { content: "all" }));
  expect(contents(restoreKept(whole, keptOf("c")))).toEqual([
    "text 0",
    "text 1",
    "Go on",
    "all",
    "too long",
  ]);
});

test("a cut answer that was stored with the question below it is shown once, above that", () => {
  const cut = { role: "assistant" as const, status: "dropped" as const, content: "text 1" };
  let here = mergeThread(emptyThread, stored({}));
  here = append(here, message({ id: "cut", serverId: "lost", parentId: "s0", ...cut }));
  keep("c", here, here.byId.cut as Message);
  here = append(here, message({ id: "next", serverId: "s2", parentId: "cut", content: "text 2" }));
  const now = stored({}, {}, {}, {});
  const merged = mergeThread(here, now);
  expect(pathOf(merged)).toEqual(["s0", "cut", "next", "s3"]);
  expect(merged.byId.cut).toMatchObject({ serverId: "s1", status: "done" });
  const reloaded = restoreKept(mergeThread(emptyThread, now), keptOf("c"));
  expect(reloaded.order).toEqual(["s0", "s1", "s2", "s3"]);
});

test("a conversation that is in this browser alone is listed, and forgotten when it is deleted", () => {
  const waiting = { role: "assistant" as const, parentId: "q", status: "waiting" as const };
  const here = append(append(emptyThread, message({})), message({ id: "a", ...waiting }));
  for (const one of Object.values(here.byId)) keep("c", here, one);
  noteKept();
  expect(useKept.getState().conversations).toMatchObject([{ id: "c", title: "text 0" }]);
  expect(heldConversations()).toEqual(["c"]);
  releaseAll("c");
  expect(useKept.getState().conversations).toEqual([]);
  expect(heldConversations()).toEqual([]);
});

test("a full storage gives up the oldest that it keeps, not the newest", () => {
  const text = "x".repeat(60_000);
  for (let i = 0; i < 60; i += 1) {
    const one = message({
      id: `q${i}`,
      content: text,
      createdAt: new Date(1e12 + i).toISOString(),
    });
    keep(`c${i}`, append(emptyThread, one), one);
  }
  noteKept();
  const kept = useKept.getState().conversations.map(({ id }) => id);
  expect(kept.length).toBeLessThan(40);
  expect(kept[0]).toBe("c59");
});

test("the chosen branch is shown after a reload", () => {
  const again = stored({}, {}, { id: "new", parent_id: "s0", role: "assistant" });
  const loaded = mergeThread(emptyThread, again);
  keepBranches("c", choose(loaded, "s1"));
  expect(pathOf(showBranches("c", loaded))).toEqual(["s0", "s1"]);
  keepBranches("c", choose(loaded, "new"));
  expect(pathOf(showBranches("c", loaded))).toEqual(["s0", "new"]);
});

test("an answer whose id was not heard before the page was opened again is not shown twice", () => {
  let here = append(emptyThread, message({ id: "q" }));
  here = append(
    here,
    message({ id: "a", parentId: "q", role: "assistant", status: "streaming", content: "" }),
  );
  for (const id of here.order) keep("c", here, here.byId[id] as Message);
  const whole = mergeThread(emptyThread, stored({}, {}));
  expect(contents(restoreKept(whole, keptOf("c")))).toEqual(["text 0", "text 1"]);
  expect(restoreKept(whole, keptOf("c")).order).toHaveLength(2);
  const asked = mergeThread(emptyThread, stored({}));
  expect(restoreKept(asked, keptOf("c"), true).order).toHaveLength(1);
  expect(restoreKept(asked, keptOf("c")).order).toHaveLength(2);
});
