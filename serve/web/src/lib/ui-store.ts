import { create } from "zustand";

export type Panel = "settings" | "palette" | "help" | "key" | "sidebar" | "prompt";

/** Whose prompt is looked at: an answer's of a conversation, the newest when none is named. */
export interface PromptTarget {
  conversation: string;
  answer?: string;
}

interface UiState {
  /** The one panel that lies over the page, or null. */
  panel: Panel | null;
  prompt: PromptTarget | null;
  open: (panel: Panel) => void;
  close: () => void;
}

export const useUi = create<UiState>()((set) => ({
  panel: null,
  prompt: null,
  open: (panel) => set({ panel }),
  close: () => set({ panel: null }),
}));

/** Shows what the model reads for an answer. */
export function openPromptView(target: PromptTarget): void {
  useUi.setState({ panel: "prompt", prompt: target });
}
