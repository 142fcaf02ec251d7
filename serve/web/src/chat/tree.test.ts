import { expect, test } from "vitest";
import {
  ancestry,
  append,
  choose,
  emptyThread,
  type Message,
  nameQuestion,
  pathOf,
  remove,
  restore,
  reveal,
  shownAs,
  siblingsOf,
  update,
} from "./tree";

const message = (id: string, parentId: string | null): Message => ({
  id,
  parentId,
  role: id.startsWith("q") ? "user" : "assistant",
  content: id,
  createdAt: "2026-01-01T00:00:00Z",
  status: "done",
});

const build = (...pairs: [string, string | null][]) =>
  pairs.reduce((thread, [id, parent]) => append(thread, message(id, parent)), emptyThread);

test("a conversation reads from its first message to its newest", () => {
  expect(pathOf(build(["q1", null], ["a1", "q1"], ["q2", "a1"], ["a2", "q2"]))).toEqual([
    "q1",
    "a1",
    "q2",
    "a2",
  ]);
});

test("an answer made anew stands in the place of the old one, which stays as its sibling", () => {
  const thread = build(["q1", null], ["a1", "q1"], ["b1", "q1"]);
  expect(pathOf(thread)).toEqual(["q1", "b1"]);
  expect(siblingsOf(thread, "b1")).toEqual(["a1", "b1"]);
});

test("going back to an earlier version shows what followed it", () => {
  const thread = build(["q1", null], ["a1", "q1"], ["q2", "a1"], ["a2", "q2"], ["b1", "q1"]);
  expect(pathOf(thread)).toEqual(["q1", "b1"]);
  expect(pathOf(choose(thread, "a1"))).toEqual(["q1", "a1", "q2", "a2"]);
});

test("editing the first question opens a branch at the root", () => {
  const thread = build(["q1", null], ["a1", "q1"], ["q1b", null]);
  expect(pathOf(thread)).toEqual(["q1b"]);
  expect(siblingsOf(thread, "q1b")).toEqual(["q1", "q1b"]);
});

test("removing a message removes what follows it and nothing else", () => {
  const thread = build(["q1", null], ["a1", "q1"], ["q2", "a1"], ["b1", "q1"]);
  const left = remove(thread, "a1");
  expect(left.order).toEqual(["q1", "b1"]);
  expect(Object.keys(left.byId)).toEqual(["q1", "b1"]);
});

test("the ancestry of a message ends with it", () => {
  const thread = build(["q1", null], ["a1", "q1"], ["q2", "a1"]);
  expect(ancestry(thread, "a1").map((one) => one.id)).toEqual(["q1", "a1"]);
  expect(ancestry(thread, null)).toEqual([]);
});

test("changing one message leaves the other ones the very same objects", () => {
  const thread = build(["q1", null], ["a1", "q1"]);
  const changed = update(thread, "a1", { content: "new" });
  expect(changed.byId.q1).toBe(thread.byId.q1);
  expect(changed.byId.a1?.content).toBe("new");
});

test("what was taken away comes back at its place, beside what has come since", () => {
  const before = build(["q1", null], ["a1", "q1"], ["q2", "a1"], ["a2", "q2"]);
  const since = append(remove(before, "q2"), message("q3", "a1"));
  const thread = restore(since, before);
  expect(thread.order).toEqual(["q1", "a1", "q2", "a2", "q3"]);
  expect(siblingsOf(thread, "q3")).toEqual(["q2", "q3"]);
});

test("a question that the server keeps twice is known by both ids", () => {
  const named = ["s1", "s1", "s2", "s2"].reduce(
    (thread, id) => nameQuestion(thread, "q1", id),
    build(["q1", null]),
  );
  expect(named.byId.q1).toMatchObject({ serverId: "s1", copies: ["s2"] });
});

test("a message on a branch that is not shown can be brought out", () => {
  const thread = build(["q1", null], ["a1", "q1"], ["q2", "a1"], ["a2", "q2"], ["b1", "q1"]);
  expect(pathOf(reveal(thread, "q2"))).toEqual(["q1", "a1", "q2", "a2"]);
});

test("a message is found by any id under which the server keeps it", () => {
  const named = nameQuestion(nameQuestion(build(["q1", null]), "q1", "s1"), "q1", "s2");
  expect(["s1", "s2", "s3"].map((id) => shownAs(named, id))).toEqual(["q1", "q1", undefined]);
});

test("what is written into an answer does not walk the tree again", () => {
  const thread = build(["q1", null], ["a1", "q1"], ["q2", "a1"], ["a2", "q2"]);
  const [path, siblings] = [pathOf(thread), siblingsOf(thread, "a2")];
  const reads: string[] = [];
  const grown = update(thread, "a2", { content: "more" });
  const watched = {
    ...grown,
    byId: new Proxy(grown.byId, {
      get(all, id) {
        reads.push(String(id));
        return all[id as string];
      },
    }),
  };
  expect(pathOf(watched)).toBe(path);
  expect(reads).toEqual([]);
  expect(siblingsOf(watched, "a2")).toBe(siblings);
  expect(reads).toEqual(["a2"]);
  expect(pathOf(append(grown, message("q3", "a2")))).toEqual([...path, "q3"]);
});
