import { create } from "zustand";

export type Panel =
  | "settings"
  | "palette"
  | "help"
  | "key"
  | "sidebar"
  | "prompt"
  | "origin"
  | "share"
  | "documents"
  | "learned";

/** Whose prompt or origin is looked at: an answer's of a conversation, the newest when none is named. */
export interface PromptTarget {
  conversation: string;
  answer?: string;
}

/** The conversation that is to be shared. */
export interface ShareTarget {
  conversation: string;
  title: string;
}

/** A document that is read, and the passage to begin at. */
export interface DocumentTarget {
  id: string;
  passage: number | null;
}

interface UiState {
  /** The one panel that lies over the page, or null. */
  panel: Panel | null;
  prompt: PromptTarget | null;
  share: ShareTarget | null;
  document: DocumentTarget | null;
  open: (panel: Panel) => void;
  close: () => void;
}

export const useUi = create<UiState>()((set) => ({
  panel: null,
  prompt: null,
  share: null,
  document: null,
  open: (panel) => set({ panel }),
  close: () => set({ panel: null }),
}));

export function openShare(target: ShareTarget): void {
  useUi.setState({ panel: "share", share: target });
}

/** Shows the list of documents, or one of them. */
export function openDocuments(target: DocumentTarget | null = null): void {
  useUi.setState({ panel: "documents", document: target });
}

/** Shows what the model reads for an answer, or where the answer came from. */
export function openPromptView(target: PromptTarget, panel: "prompt" | "origin" = "prompt"): void {
  useUi.setState({ panel, prompt: target });
}
