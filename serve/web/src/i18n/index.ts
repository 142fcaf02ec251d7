import { type Language, useSettings } from "@/settings/store";
import { de } from "./de";
import { type Dictionary, en } from "./en";

const dictionaries = { en, de } satisfies Record<string, Dictionary>;

/** The language that is shown: "system" is the browser's, English where we do not speak it. */
export function shownLanguage(language: Language): "en" | "de" {
  if (language !== "system") return language;
  return navigator.language.toLowerCase().startsWith("de") ? "de" : "en";
}

export function useLanguage(): "en" | "de" {
  return shownLanguage(useSettings((state) => state.language));
}

/** The dictionary, for components. */
export function useWords(): Dictionary {
  return dictionaries[useLanguage()];
}

/** The dictionary, outside of components. */
export function words(): Dictionary {
  return dictionaries[shownLanguage(useSettings.getState().language)];
}
