import { create } from "zustand";

export type Panel = "settings" | "palette" | "help" | "key" | "sidebar";

interface UiState {
  /** The one panel that lies over the page, or null. */
  panel: Panel | null;
  open: (panel: Panel) => void;
  close: () => void;
}

export const useUi = create<UiState>()((set) => ({
  panel: null,
  open: (panel) => set({ panel }),
  close: () => set({ panel: null }),
}));
