import { useQuery } from "@tanstack/react-query";
import { request, requestJson } from "./client";
import { queryClient } from "./queries";
import type { components } from "./schema";
import type { Choice, Vote } from "./votes";

export type ShadowPair = components["schemas"]["ShadowPair"];
type Page = components["schemas"]["ShadowPairPage"];

const PATH = "/v1/shadow-pairs";
const KEY = ["shadow-pairs"];
const pathOf = (id: string) => `${PATH}/${encodeURIComponent(id)}`;

/** The newest pairs of a served answer and a shadow's that wait for the reader's blind vote. */
export function useShadowPairs() {
  return useQuery({
    queryKey: KEY,
    queryFn: () => requestJson<Page>(`${PATH}?limit=100`).then(({ data }) => data),
  });
}

/** Looks which pairs are left. */
export function refreshShadowPairs(): Promise<void> {
  return queryClient.invalidateQueries({ queryKey: KEY });
}

/** Votes on a pair, which is then a vote as any other and names both models. */
export async function voteOnShadowPair(id: string, choice: Choice): Promise<Vote> {
  const body = JSON.stringify({ choice });
  const vote = await requestJson<Vote>(`${pathOf(id)}/vote`, { method: "POST", body });
  void queryClient.invalidateQueries({ queryKey: ["votes"] });
  return vote;
}

/** Deletes a pair without a vote. */
export async function skipShadowPair(id: string): Promise<void> {
  await request(pathOf(id), { method: "DELETE" });
}
