// @vitest-environment jsdom
import { expect, test } from "vitest";
import { batchByFrame } from "./frames";

const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

test("everything that arrives within a frame is handed on at once and in order", async () => {
  const flushed: number[][] = [];
  const batch = batchByFrame<number>((items) => flushed.push(items));
  for (let i = 0; i < 5; i += 1) batch.add(i);
  expect(flushed).toEqual([]);
  await frame();
  await frame();
  expect(flushed).toEqual([[0, 1, 2, 3, 4]]);
});

test("flushing hands on what waits, and nothing twice", async () => {
  const flushed: string[][] = [];
  const batch = batchByFrame<string>((items) => flushed.push(items));
  batch.add("a");
  batch.flush();
  await frame();
  await frame();
  expect(flushed).toEqual([["a"]]);
});
