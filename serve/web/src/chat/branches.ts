import { childrenOf, type Message, ROOT, type Thread } from "./tree";

/**
 * Which branches of conversations this browser shows, where these are not the newest: by parent, both
 * as the server calls them.
 */
const PREFIX = "resonance.branches.";
const LIMIT = 200;

type Branches = Record<string, string>;

export function keepBranches(conversation: string, thread: Thread): void {
  const branches: Branches = {};
  for (const [parent, child] of Object.entries(thread.chosen)) {
    const newest = childrenOf(thread, parent === ROOT ? null : parent).at(-1);
    const above = parent === ROOT ? ROOT : thread.byId[parent]?.serverId;
    const shown = thread.byId[child]?.serverId;
    if (child !== newest && above !== undefined && shown) branches[above] = shown;
  }
  try {
    localStorage.removeItem(PREFIX + conversation);
    if (Object.keys(branches).length === 0) return;
    const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX));
    for (const name of names.slice(0, Math.max(0, names.length - LIMIT + 1)))
      localStorage.removeItem(name);
    localStorage.setItem(PREFIX + conversation, JSON.stringify(branches));
  } catch {
    // Then the newest branches are shown.
  }
}

/** Chooses the branches that were shown when the page was left. */
export function showBranches(conversation: string, thread: Thread): Thread {
  let branches: Branches = {};
  try {
    branches = JSON.parse(localStorage.getItem(PREFIX + conversation) ?? "{}") as Branches;
  } catch {
    return thread;
  }
  const chosen = { ...thread.chosen };
  const find = (id: string) =>
    thread.order.find((one) => thread.byId[one]?.serverId === id || one === id);
  for (const [parent, child] of Object.entries(branches)) {
    const above = parent === ROOT ? ROOT : find(parent);
    const shown = find(child);
    const message: Message | undefined = shown ? thread.byId[shown] : undefined;
    if (above !== undefined && shown && (message?.parentId ?? ROOT) === above)
      chosen[above] = shown;
  }
  return { ...thread, chosen };
}
