import { useMemo, useSyncExternalStore } from "react";

/** What the address bar asks for. */
export interface Route {
  mode: "chat" | "compare" | "complete";
  conversation: string | null;
}

/** `/`, `/c/<id>`, `/?mode=compare`, `/?mode=complete`; anything else is the new chat. */
export function parseRoute(pathname: string, search: string): Route {
  const mode = new URLSearchParams(search).get("mode");
  if (mode === "compare" || mode === "complete") return { mode, conversation: null };
  const match = /^\/c\/([^/]+)\/?$/.exec(pathname);
  return { mode: "chat", conversation: match?.[1] ? decodeURIComponent(match[1]) : null };
}

export function conversationHref(id: string): string {
  return `/c/${encodeURIComponent(id)}`;
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

const current = () => window.location.pathname + window.location.search;

/** Goes to another of the page's addresses without loading it anew. */
export function navigate(href: string, { replace = false } = {}): void {
  if (href === current()) return;
  if (replace) window.history.replaceState(null, "", href);
  else window.history.pushState(null, "", href);
  for (const listener of listeners) listener();
}

export function useRoute(): Route {
  const address = useSyncExternalStore(subscribe, current);
  return useMemo(() => {
    const url = new URL(address, window.location.origin);
    return parseRoute(url.pathname, url.search);
  }, [address]);
}
