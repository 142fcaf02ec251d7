import { useQuery } from "@tanstack/react-query";
import { request, requestJson } from "./client";
import { conversationPath, queryClient } from "./queries";
import type { components } from "./schema";

type Schemas = components["schemas"];

/** A link by which others read a conversation. */
export type Share = Schemas["Share"];

export type SharedConversation = Schemas["SharedConversation"];

export function useShares(enabled: boolean) {
  return useQuery({
    queryKey: ["shares"],
    enabled,
    staleTime: 0,
    queryFn: ({ signal }) => requestJson<{ data: Share[] }>("/v1/shares", { signal }),
    select: ({ data }) => data,
  });
}

/** Shares what leads to a message, or to the newest. */
export async function share(
  conversation: string,
  days: number,
  message: string | undefined,
): Promise<Share> {
  const body = JSON.stringify({ expires_in_days: days, message_id: message ?? null });
  const init = { method: "POST", body };
  const made = await requestJson<Share>(`${conversationPath(conversation)}/shares`, init);
  void queryClient.invalidateQueries({ queryKey: ["shares"] });
  return made;
}

export async function revoke(id: string): Promise<void> {
  await request(`/v1/shares/${encodeURIComponent(id)}`, { method: "DELETE" });
  void queryClient.invalidateQueries({ queryKey: ["shares"] });
}

export function useShared(id: string) {
  return useQuery({
    queryKey: ["shared", id],
    retry: false,
    queryFn: ({ signal }) =>
      requestJson<SharedConversation>(`/v1/shared/${encodeURIComponent(id)}`, { signal }),
  });
}
