import type { Conversation } from "@/api/types";
import { threadFromServer } from "./from-server";
import { isUnstored } from "./kept";
import { childrenOf, type Message, ROOT, shownAs, type Thread } from "./tree";

/**
 * A conversation as the server has it now, put into the thread that the page shows.
 *
 * What the page shows keeps its ids, its tokens and the chosen branches. What the server does not have
 * stays where it was never stored, and goes where it was: somebody has deleted it. `hidden` are the
 * server's ids of messages that the reader is about to delete.
 */
export function mergeThread(
  shown: Thread,
  conversation: Conversation,
  hidden: ReadonlySet<string> = new Set(),
): Thread {
  const fresh = threadFromServer(conversation);
  const localOf = new Map<string, string>();
  let byId: Record<string, Message> = {};
  const order: string[] = [];
  const parentOf = (id: string | null) => (id === null ? null : (localOf.get(id) ?? null));
  for (const id of fresh.order) {
    const stored = fresh.byId[id] as Message;
    if (hidden.has(id) || (stored.parentId !== null && !localOf.has(stored.parentId))) continue;
    const parentId = parentOf(stored.parentId);
    const local = shownAs(shown, id) ?? twinOf(shown, stored, parentId, byId) ?? id;
    localOf.set(id, local);
    const known = shown.byId[local];
    const { tokens, unsearched, why } = known ?? {};
    const kept = known?.content === stored.content ? { tokens, unsearched, why } : {};
    byId[local] = { ...stored, ...kept, id: local, parentId };
    order.push(local);
  }
  for (const id of shown.order) {
    const message = shown.byId[id] as Message;
    const above = message.parentId;
    if (byId[id] || !isUnstored(message) || (above !== null && !byId[above])) continue;
    byId = { ...byId, [id]: message };
    order.push(id);
  }
  return { byId, order, chosen: chosenIn({ byId, order, chosen: {} }, shown) };
}

/**
 * The message of the page that has not heard under which id the server has it: a question, or an answer
 * that was cut off and sent with the next question.
 */
function twinOf(
  shown: Thread,
  stored: Message,
  parentId: string | null,
  taken: Readonly<Record<string, Message>>,
): string | undefined {
  return childrenOf(shown, parentId).find((id) => {
    const message = shown.byId[id] as Message;
    const unnamed = stored.role === "user" ? !message.serverId : message.status === "dropped";
    return unnamed && isSame(message, stored) && !taken[id];
  });
}

const isSame = (one: Message, other: Message) =>
  one.role === other.role && one.content === other.content;

/** The branches that were chosen; where the newest one was shown, a newer one takes its place. */
function chosenIn(thread: Thread, before: Thread): Thread["chosen"] {
  const chosen: Record<string, string> = {};
  for (const [parent, child] of Object.entries(before.chosen)) {
    const wasNewest = childrenOf(before, parent === ROOT ? null : parent).at(-1) === child;
    if (!wasNewest && thread.byId[child]) chosen[parent] = child;
  }
  return chosen;
}

/**
 * Adds to a thread what this browser has kept of it; what was being written has been cut off. `answering`
 * says that the server is writing an answer in it: it is the kept one whose id nobody had heard.
 */
export function restoreKept(thread: Thread, kept: Message[], answering = false): Thread {
  let restored: Thread = { ...thread };
  const localOf = new Map<string, string>();
  for (let left = kept; left.length > 0; ) {
    const later = left.filter((message) => {
      const parent = message.parentId && (localOf.get(message.parentId) ?? message.parentId);
      const place = parent ? shownAs(restored, parent) : null;
      if (place === undefined) return true;
      const local = shownAs(restored, message.id) ?? sameAs(restored, message, place);
      if (local) localOf.set(message.id, local);
      else if (isUnnamed(message) && (answering || childrenOf(restored, place).length > 0))
        return false; // the server has it, under its own id
      else restored = hang(restored, message, place);
      return false;
    });
    if (later.length === left.length) break; // what they followed is gone
    left = later;
  }
  return restored;
}

/** Whether nothing had come of an answer yet, not even its id. */
const isUnnamed = ({ status, serverId }: Message) => status === "streaming" && !serverId;

function sameAs(thread: Thread, message: Message, place: string | null): string | undefined {
  if (message.role !== "user" && message.status !== "dropped") return undefined;
  return childrenOf(thread, place).find((id) => isSame(thread.byId[id] as Message, message));
}

function hang(thread: Thread, message: Message, parentId: string | null): Thread {
  const status = message.status === "streaming" ? "dropped" : message.status;
  const hung = { ...message, status, parentId };
  const order = [...thread.order, message.id];
  return { ...thread, byId: { ...thread.byId, [message.id]: hung }, order };
}
