import { useQuery } from "@tanstack/react-query";
import { request, requestJson } from "./client";
import { queryClient } from "./queries";
import type { components } from "./schema";

type Schemas = components["schemas"];

/** A document on the server, as OpenAI's API describes a file; without a conversation it is of the library. */
export type ServerFile = Schemas["File"];

export type FileText = Schemas["FileText"];

/** What the server reads. */
export const ACCEPTED = ".txt,.text,.md,.markdown,.rst,.html,.htm,.pdf";

const FILES = "/v1/files";

export function useFiles(enabled = true) {
  return useQuery({
    queryKey: ["files"],
    enabled,
    queryFn: ({ signal }) => requestJson<{ data: ServerFile[] }>(`${FILES}?limit=1000`, { signal }),
    select: ({ data }) => data,
  });
}

export function useFileText(id: string | undefined) {
  return useQuery({
    queryKey: ["files", "text", id],
    enabled: id !== undefined,
    retry: false,
    queryFn: ({ signal }) => requestJson<FileText>(`${filePath(id as string)}/text`, { signal }),
  });
}

function filePath(id: string): string {
  return `${FILES}/${encodeURIComponent(id)}`;
}

const refresh = () => void queryClient.invalidateQueries({ queryKey: ["files"], exact: true });

/** Adds a document to a conversation, or to the library. */
export async function addFile(file: File, conversation: string | null): Promise<ServerFile> {
  const body = new FormData();
  body.set("file", file);
  if (conversation) body.set("conversation_id", conversation);
  const added = await requestJson<ServerFile>(FILES, { method: "POST", body });
  refresh();
  return added;
}

export async function deleteFile(id: string): Promise<void> {
  await request(filePath(id), { method: "DELETE" });
  refresh();
}

/** The file as it was added. */
export async function fetchContent(id: string): Promise<Blob> {
  return (await request(`${filePath(id)}/content`)).blob();
}
