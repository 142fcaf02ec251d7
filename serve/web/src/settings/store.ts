import { create } from "zustand";
import { persist } from "zustand/middleware";

export type Theme = "system" | "light" | "dark";
export type Language = "system" | "en" | "de";
/** Before an answer: never search, let the server decide, always search. */
export type SearchMode = "off" | "auto" | "on";

/** The mode after this one, around and around. */
export function nextSearch(mode: SearchMode): SearchMode {
  return ({ off: "auto", auto: "on", on: "off" } as const)[mode];
}

export interface Sampling {
  temperature: number;
  top_p: number;
  top_k: number;
  max_tokens: number;
  seed: number | null;
}

export const defaultSampling: Sampling = {
  temperature: 0.7,
  top_p: 0.95,
  top_k: 0,
  max_tokens: 256,
  seed: null,
};

/** Named settings of the sliders; a seed stays as it is. */
export const samplingPresets = {
  precise: { temperature: 0, top_p: 1, top_k: 0 },
  balanced: { temperature: 0.7, top_p: 0.95, top_k: 0 },
  creative: { temperature: 1.1, top_p: 0.98, top_k: 0 },
} as const;

interface SettingsState {
  theme: Theme;
  language: Language;
  model: string | null;
  sampling: Sampling;
  system: string;
  search: SearchMode;
  tokenView: boolean;
  sidebar: boolean;
  set: (patch: Partial<Omit<SettingsState, "set">>) => void;
}

/** The search was a switch, off at first. */
export function fromFirstVersion(stored: unknown): SettingsState {
  const old = stored as Omit<SettingsState, "search"> & { search?: boolean };
  return { ...old, search: old.search ? "on" : "auto" };
}

/** What this browser remembers of the reader's choices. */
export const useSettings = create<SettingsState>()(
  persist(
    (set) => ({
      theme: "system",
      language: "system",
      model: null,
      sampling: defaultSampling,
      system: "",
      search: "auto",
      tokenView: false,
      sidebar: true,
      set: (patch) => set(patch),
    }),
    {
      name: "resonance.settings",
      version: 2,
      migrate: fromFirstVersion,
    },
  ),
);
