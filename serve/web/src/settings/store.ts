import { create } from "zustand";
import { persist } from "zustand/middleware";
import type { SourceChoice } from "@/api/types";

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
  min_p: number;
  repetition_penalty: number;
  max_tokens: number;
  seed: number | null;
  /** Texts that end an answer. */
  stop: readonly string[];
}

/** Where neither the reader nor the server says anything. */
export const fallbackSampling: Sampling = {
  temperature: 0.7,
  top_p: 0.95,
  top_k: 0,
  min_p: 0,
  repetition_penalty: 1,
  max_tokens: 256,
  seed: null,
  stop: [],
};

/** Named settings of the sliders, beside the server's own; the rest stays as it is. */
export const samplingPresets = {
  precise: { temperature: 0, top_p: 1, top_k: 0 },
  creative: { temperature: 1.1, top_p: 0.98, top_k: 0 },
} as const;

/** Text, any JSON object, or JSON of a schema, which is kept as it is written. */
export interface AnswerFormat {
  type: "text" | "json_object" | "json_schema";
  schema: string;
}

/** What the reader chose for one conversation. */
export interface Own {
  model?: string;
  system?: string;
  /** Where its answers may draw from; null: as the server is configured. */
  sources?: SourceChoice | null;
}

interface SettingsState {
  theme: Theme;
  language: Language;
  model: string | null;
  /** What the reader changed; all else is the server's. */
  sampling: Partial<Sampling>;
  format: AnswerFormat;
  system: string;
  search: SearchMode;
  tokenView: boolean;
  sidebar: boolean;
  /** Whether it was asked here if training may use what the reader judges; the answer is the server's to keep. */
  consentQuestion: "unasked" | "open" | "put off";
  /** By conversation. */
  own: Readonly<Record<string, Own>>;
  set: (patch: Partial<Omit<SettingsState, "set">>) => void;
}

const OWN_LIMIT = 200;

/** Notes a choice for one conversation; the oldest notes go. */
export function setOwn(conversation: string, part: Own): void {
  useSettings.setState(({ own }) => {
    const { [conversation]: before, ...others } = own;
    const kept = Object.entries(others).slice(1 - OWN_LIMIT);
    return { own: { ...Object.fromEntries(kept), [conversation]: { ...before, ...part } } };
  });
}

/** Version 1 had a search that was a switch; up to version 2 all sampling was stored, changed or not. */
export function fromOlderVersion(stored: unknown, version: number): SettingsState {
  const old = stored as Omit<SettingsState, "search"> & { search?: SearchMode | boolean };
  const search = version < 2 ? (old.search ? "on" : "auto") : (old.search as SearchMode);
  const former = new Map<string, unknown>(Object.entries(fallbackSampling));
  const all = Object.entries(old.sampling ?? {});
  const sampling = Object.fromEntries(all.filter(([name, value]) => value !== former.get(name)));
  return { ...old, search, sampling };
}

/** What this browser remembers of the reader's choices. */
export const useSettings = create<SettingsState>()(
  persist(
    (set) => ({
      theme: "system",
      language: "system",
      model: null,
      sampling: {},
      format: { type: "text", schema: "" },
      system: "",
      search: "auto",
      tokenView: false,
      sidebar: true,
      consentQuestion: "unasked",
      own: {},
      set: (patch) => set(patch),
    }),
    {
      name: "resonance.settings",
      version: 3,
      migrate: fromOlderVersion,
    },
  ),
);
