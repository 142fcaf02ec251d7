const NAME = "resonance.key";

/** The API key the reader entered in this browser, or null. It goes into a header, never a URL. */
export function getApiKey(): string | null {
  try {
    return localStorage.getItem(NAME);
  } catch {
    return null;
  }
}

export function setApiKey(key: string | null): void {
  if (key) localStorage.setItem(NAME, key);
  else localStorage.removeItem(NAME);
}
