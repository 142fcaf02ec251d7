import { useMemo, useSyncExternalStore } from "react";

/** What the address bar asks for. */
export interface Route {
  mode: "chat" | "compare" | "complete";
  conversation: string | null;
  /** The message to show, where it is not the newest. */
  message: string | null;
}

/** `/`, `/c/<id>`, `/c/<id>#<message>`, `/?mode=compare`, `/?mode=complete`; all else is the new chat. */
export function parseRoute(pathname: string, search: string, hash = ""): Route {
  const mode = new URLSearchParams(search).get("mode");
  if (mode === "compare" || mode === "complete") return { mode, conversation: null, message: null };
  const match = /^\/c\/([^/]+)\/?$/.exec(pathname);
  const conversation = match?.[1] ? decode(match[1]) : null;
  return { mode: "chat", conversation, message: (conversation && decode(hash.slice(1))) || null };
}

/** What a part of an address says; one that is broken says nothing. */
function decode(part: string): string | null {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

export function conversationHref(id: string, message?: string): string {
  return `/c/${encodeURIComponent(id)}${message ? `#${encodeURIComponent(message)}` : ""}`;
}

const listeners = new Set<() => void>();

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  window.addEventListener("popstate", listener);
  return () => {
    listeners.delete(listener);
    window.removeEventListener("popstate", listener);
  };
}

let visited: URL | null = null;

/** The address, as a new object for every visit. */
function current(): URL {
  const { href } = window.location;
  if (visited?.href !== href) visited = new URL(href);
  return visited;
}

/** Goes to another of the page's addresses without loading it anew; to the same one, once more to its message. */
export function navigate(href: string, { replace = false } = {}): void {
  const to = new URL(href, window.location.href);
  if (to.href === current().href) {
    if (to.hash === "") return;
    visited = to;
  } else if (replace) window.history.replaceState(null, "", href);
  else window.history.pushState(null, "", href);
  for (const listener of listeners) listener();
}

/** What the address asks for; a new object for every visit. */
export function useRoute(): Route {
  const address = useSyncExternalStore(subscribe, current);
  return useMemo(() => parseRoute(address.pathname, address.search, address.hash), [address]);
}
