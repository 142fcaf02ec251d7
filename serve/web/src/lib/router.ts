import { useMemo, useSyncExternalStore } from "react";

/** What the address bar asks for. */
export interface Route {
  mode: "chat" | "temporary" | "compare" | "complete" | "shared";
  conversation: string | null;
  /** The message to show, where it is not the newest. */
  message: string | null;
  /** A link's id, by which a shared conversation is read. */
  shared?: string;
  /** The document to open, and its passage. */
  document?: { id: string; passage: number | null };
}

const MODES = ["temporary", "compare", "complete"] as const;

/**
 * `/`, `/c/<id>`, `/c/<id>#<message>`, `/s/<link>`, `/d/<document>/<passage>/<name>`, `/?mode=compare` and the other
 * modes; all else is the new chat.
 */
export function parseRoute(pathname: string, search: string, hash = ""): Route {
  const wanted = new URLSearchParams(search).get("mode");
  const mode = MODES.find((one) => one === wanted);
  const nothing = { conversation: null, message: null };
  if (mode) return { mode, ...nothing };
  const link = /^\/s\/([\w-]+)\/?$/.exec(pathname)?.[1];
  if (link) return { mode: "shared", shared: link, ...nothing };
  const document = parseDocument(pathname);
  if (document) return { mode: "chat", document, ...nothing };
  const match = /^\/c\/([^/]+)\/?$/.exec(pathname);
  const conversation = match?.[1] ? decode(match[1]) : null;
  return { mode: "chat", conversation, message: (conversation && decode(hash.slice(1))) || null };
}

/** The document and the passage that an address of ours names. */
export function parseDocument(pathname: string): Route["document"] {
  const found = /^\/d\/([\w-]+)(?:\/(\d+)(?:\/.*)?)?$/.exec(pathname);
  return found?.[1] ? { id: found[1], passage: found[2] ? Number(found[2]) : null } : undefined;
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
