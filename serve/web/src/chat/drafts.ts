import { useCallback } from "react";
import { create } from "zustand";

const useDrafts = create<{ drafts: Record<string, string> }>()(() => ({ drafts: {} }));

const NEW = "";

/** The text being written for a conversation; it waits there while the reader looks elsewhere. */
export function useDraft(conversation: string | null): [string, (text: string) => void] {
  const name = conversation ?? NEW;
  const draft = useDrafts((state) => state.drafts[name] ?? "");
  const setDraft = useCallback(
    (text: string) => useDrafts.setState(({ drafts }) => ({ drafts: { ...drafts, [name]: text } })),
    [name],
  );
  return [draft, setDraft];
}
