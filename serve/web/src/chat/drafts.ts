import { useCallback } from "react";
import { create } from "zustand";
import { isTemporary } from "./temporary";

const PREFIX = "resonance.draft.";
const LIMIT = 50;
const NEW = "new";

const useDrafts = create<{ drafts: Record<string, string> }>()(() => ({ drafts: {} }));

function read(name: string): string {
  try {
    return localStorage.getItem(PREFIX + name) ?? "";
  } catch {
    return "";
  }
}

function write(name: string, text: string): void {
  try {
    localStorage.removeItem(PREFIX + name);
    if (text === "") return;
    const others = Object.keys(localStorage).filter((other) => other.startsWith(PREFIX));
    for (const other of others.slice(0, Math.max(0, others.length - LIMIT + 1)))
      localStorage.removeItem(other);
    localStorage.setItem(PREFIX + name, text);
  } catch {
    // The draft is there as long as the page is open.
  }
}

/** The text being written for a conversation; it waits there, after a reload too. */
export function useDraft(conversation: string | null): [string, (text: string) => void] {
  const name = conversation ?? NEW;
  const draft = useDrafts((state) => state.drafts[name]) ?? read(name);
  const setDraft = useCallback(
    (text: string) => {
      useDrafts.setState(({ drafts }) => ({ drafts: { ...drafts, [name]: text } }));
      if (!isTemporary(name)) write(name, text);
    },
    [name],
  );
  return [draft, setDraft];
}

/** Drops the draft of a conversation that is gone. */
export function dropDraft(conversation: string): void {
  useDrafts.setState(({ drafts }) => ({ drafts: { ...drafts, [conversation]: "" } }));
  write(conversation, "");
}
