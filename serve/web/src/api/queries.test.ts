import { InfiniteQueryObserver } from "@tanstack/react-query";
import { expect, test } from "vitest";
import { queryClient, refreshConversations } from "./queries";

test("a list that is being read for the first time is read again after a change, not taken for the newest", async () => {
  const stored = ["older"];
  const answers: (() => void)[] = [];
  const observer = new InfiniteQueryObserver(queryClient, {
    queryKey: ["conversations", ""],
    initialPageParam: "",
    getNextPageParam: () => undefined,
    queryFn: ({ signal }) => {
      const read = [...stored];
      return new Promise<string[]>((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
        answers.push(() => resolve(read));
      });
    },
  });
  const stop = observer.subscribe(() => {});
  stored.push("newer");
  const refreshed = refreshConversations();
  await expect.poll(() => answers.length).toBe(2);
  for (const answer of answers) answer();
  await refreshed;
  expect(observer.getCurrentResult().data?.pages).toEqual([["older", "newer"]]);
  stop();
});
