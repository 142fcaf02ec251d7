const NAME = "resonance.key";

/** The API key the reader entered in this browser, or null. It goes into a header, never a URL. */
export function getApiKey(): string | null {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null;
  }
}

/** Calls `changed` when another tab of this browser changes the key; returns what ends that. */
export function onKeyOfAnotherTab(changed: () => void): () => void {
  const look = (event: StorageEvent) => {
    if (event.key === NAME || event.key === null) changed();
  };
  window.addEventListener("storage", look);
  return () => window.removeEventListener("storage", look);
}

export function setApiKey(key: string | null): void {
  if (key) localStorage.setItem(NAME, key);
  else localStorage.removeItem(NAME);
}
