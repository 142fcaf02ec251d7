import {
  type InfiniteData,
  QueryCache,
  QueryClient,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { useCallback } from "react";
import { create } from "zustand";
import { type KeptConversation, useKept } from "@/chat/kept";
import { useUi } from "@/lib/ui-store";
import { ApiError, onUnreachable, request, requestJson } from "./client";
import type {
  Conversation,
  ConversationPage,
  Feedback,
  Folder,
  Health,
  ListedConversation,
  Model,
  SourceChoice,
} from "./types";

export const queryClient = new QueryClient({
  queryCache: new QueryCache({
    onError: (error) => {
      if (error instanceof ApiError && error.status === 401) useUi.getState().open("key");
    },
  }),
  defaultOptions: {
    queries: {
      staleTime: 30_000,
      refetchOnWindowFocus: false,
      retry: (failures, error) =>
        !(error instanceof ApiError && error.status < 500) && failures < 2,
    },
  },
});

// The banner need not wait for the next look at the server's health.
onUnreachable(() => void queryClient.invalidateQueries({ queryKey: ["health"] }));

/** How often a page that is seen looks whether the server is there (ms). */
const HEALTH_PAUSE = 2_000;

/** The server's state. One that does not answer at all is "down", and otherwise what it was. */
export async function fetchHealth(): Promise<Health> {
  try {
    const response = await fetch("/health");
    const body = (await response.json()) as Health;
    if (body.status) return body;
  } catch {
    // No answer, or not ours.
  }
  return { ...queryClient.getQueryData<Health>(["health"]), status: "down" };
}

export function useHealth() {
  return useQuery({
    queryKey: ["health"],
    queryFn: fetchHealth,
    staleTime: 0,
    refetchInterval: HEALTH_PAUSE,
    refetchOnWindowFocus: "always",
  });
}

/** True once the server is known not to be ready to answer. */
export function isUnavailable(): boolean {
  const status = queryClient.getQueryData<Health>(["health"])?.status;
  return status === "loading" || status === "down";
}

export function useModels() {
  return useQuery({
    queryKey: ["models"],
    queryFn: () => requestJson<{ data: Model[] }>("/v1/models").then((list) => list.data),
    staleTime: 60_000,
  });
}

const PAGE = 40;

type Pages = InfiniteData<ConversationPage>;

/** Conversations that the reader has deleted, while the server may still list them. */
export const useDeleted = create<{ ids: readonly string[] }>()(() => ({ ids: [] }));

/** Conversations that are in this browser alone stand before those of the server. */
function withKept(
  listed: ListedConversation[],
  kept: readonly KeptConversation[],
): ListedConversation[] {
  const alone = kept.filter(({ id }) => !listed.some((one) => one.id === id));
  const own = alone.map(({ id, title, at }) => {
    const time = new Date(at).toISOString();
    return { id, title, created_at: time, updated_at: time, message_count: 0 };
  });
  return [...own, ...listed];
}

/** Which conversations a list has: those that are in use, those of a folder, or those put away. */
export type Shelf = { folder: string } | "archived" | null;

function shelfQuery(search: string, shelf: Shelf, pinned?: boolean): URLSearchParams {
  const query = new URLSearchParams({ limit: String(PAGE) });
  // A search looks everywhere.
  if (search) query.set("q", search);
  else if (shelf === "archived") query.set("archived", "true");
  else if (shelf) query.set("folder", shelf.folder);
  else query.set("archived", "false");
  if (pinned !== undefined) query.set("pinned", String(pinned));
  return query;
}

/** What is pinned, for the top of the list. */
export function usePinned() {
  const deleted = useDeleted((state) => state.ids);
  return useQuery({
    queryKey: ["conversations", "pinned"],
    queryFn: ({ signal }) =>
      requestJson<ConversationPage>(`/v1/conversations?${shelfQuery("", null, true)}`, { signal }),
    select: ({ data }) => data.filter(({ id }) => !deleted.includes(id)),
  });
}

export function useFolders() {
  return useQuery({
    queryKey: ["conversations", "folders"],
    queryFn: ({ signal }) => requestJson<{ data: Folder[] }>("/v1/folders", { signal }),
    select: ({ data }) => data.map(({ name }) => name),
  });
}

export function useConversations(search: string, shelf: Shelf = null) {
  const deleted = useDeleted((state) => state.ids);
  const kept = useKept((state) => state.conversations);
  const select = useCallback(
    ({ pages }: Pages) => {
      const listed = pages.flatMap((page) => page.data);
      const shown = search || shelf ? listed : withKept(listed, kept);
      return shown.filter(({ id }) => !deleted.includes(id));
    },
    [deleted, kept, search, shelf],
  );
  return useInfiniteQuery({
    queryKey: ["conversations", "list", search, shelf],
    initialPageParam: "",
    queryFn: ({ pageParam, signal }) => {
      const query = shelfQuery(search, shelf);
      if (pageParam) query.set("after", pageParam);
      return requestJson<ConversationPage>(`/v1/conversations?${query}`, { signal });
    },
    getNextPageParam: (page) => (page.has_more ? page.data.at(-1)?.id : undefined),
    placeholderData: (previous) => previous,
    select,
  });
}

/**
 * Reads every list of conversations again.
 *
 * A first read under way is given up: it may have begun before the change, and an invalidation
 * alone would join it and take its answer for the newest.
 */
export async function refreshConversations(): Promise<void> {
  await queryClient.cancelQueries({ queryKey: ["conversations"] });
  await queryClient.invalidateQueries({ queryKey: ["conversations"] });
}

export function fetchConversation(id: string, signal?: AbortSignal): Promise<Conversation> {
  return requestJson<Conversation>(conversationPath(id), { signal });
}

export function conversationPath(id: string): string {
  return `/v1/conversations/${encodeURIComponent(id)}`;
}

export interface Change {
  title?: string;
  pinned?: boolean;
  archived?: boolean;
  folder?: string | null;
  search_sources?: SourceChoice | null;
}

/** Changes a conversation's title or place in the list. */
export function useChangeConversation() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, ...change }: { id: string } & Change) =>
      request(conversationPath(id), { method: "PATCH", body: JSON.stringify(change) }),
    // Every loaded list says so at once, before the server does.
    onMutate: ({ id, ...change }) =>
      client.setQueriesData<Pages>({ queryKey: ["conversations", "list"] }, (old) => {
        const pages = old?.pages.map((page) => ({
          ...page,
          data: page.data.map((one) => (one.id === id ? { ...one, ...change } : one)),
        }));
        return old && pages && { ...old, pages };
      }),
    onSettled: refreshConversations,
  });
}

export function sendFeedback(conversation: string, message: string, feedback: Feedback) {
  const path = `${conversationPath(conversation)}/messages/${encodeURIComponent(message)}/feedback`;
  return request(path, { method: "PUT", body: JSON.stringify(feedback) });
}
