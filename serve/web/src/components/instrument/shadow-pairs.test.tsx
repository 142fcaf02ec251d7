// @vitest-environment jsdom
import { QueryClientProvider } from "@tanstack/react-query";
import { render, screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test, vi } from "vitest";
import { queryClient } from "@/api/queries";
import { ShadowPairs } from "./shadow-pairs";

const pairOf = (id: string) => ({
  id,
  prompt: [{ role: "user", content: `Question ${id}` }],
  a: `Left of ${id}`,
  b: `Right of ${id}`,
});

test("pairs of a shadow are voted on one at a time and blind, or skipped", async () => {
  const sent: [string, string, unknown][] = [];
  let pairs = ["1", "2"].map(pairOf);
  vi.stubGlobal("fetch", async (path: string, { method = "GET", body }: RequestInit = {}) => {
    if (method === "GET") return Response.json({ data: pairs, has_more: false });
    sent.push([method, path, body]);
    pairs = pairs.slice(1);
    return Response.json({ id: "vote-1", a: { model: "tiny" }, b: { model: "other" } });
  });
  const user = userEvent.setup();
  render(
    <QueryClientProvider client={queryClient}>
      <ShadowPairs />
    </QueryClientProvider>,
  );
  const left = await screen.findByRole("region", { name: "Side A" });
  await within(left).findByText("Left of 1");
  expect(screen.queryByText(/tiny|other/)).toBeNull();
  await user.click(screen.getByRole("button", { name: "B is better" }));
  await screen.findByText("A was tiny, B was other.");
  expect(screen.queryByRole("button", { name: "B is better" })).toBeNull();
  await user.click(screen.getByRole("button", { name: "Next" }));
  await screen.findByText("Left of 2");
  await user.click(screen.getByRole("button", { name: "Skip" }));
  await vi.waitFor(() => expect(screen.queryByRole("region")).toBeNull());
  expect(sent).toEqual([
    ["POST", "/v1/shadow-pairs/1/vote", '{"choice":"b"}'],
    ["DELETE", "/v1/shadow-pairs/2", undefined],
  ]);
});
