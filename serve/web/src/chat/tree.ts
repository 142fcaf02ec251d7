import type { Feedback, Role, SearchReason, Sources, TokenLogprob, Usage } from "@/api/types";
import type { SearchMode } from "@/settings/store";
import type { Beginning } from "./tokens";

/**
 * A conversation as a tree: an answer made anew is a sibling of the old one, an edited question
 * opens a branch, and `chosen` says which branch is shown. All functions return a new thread.
 */
export interface Thread {
  byId: Readonly<Record<string, Message>>;
  /** Ids in the order in which the messages were made. */
  order: readonly string[];
  /** The shown child of a parent (`ROOT` for the first messages); without one, the newest. */
  chosen: Readonly<Record<string, string>>;
}

export interface Message {
  id: string;
  /** The id under which the server keeps it; absent until that is known. */
  serverId?: string;
  /** Of the first question: the system prompt above it. */
  system?: string;
  /** Of a question: further ids, as the server keeps it once more for an answer made anew. */
  copies?: string[];
  parentId: string | null;
  role: Role;
  content: string;
  createdAt: string;
  /** "waiting": it is asked for once the server is there; "dropped": it was cut off. */
  status: "streaming" | "done" | "stopped" | "failed" | "dropped" | "waiting";
  model?: string | null;
  sources?: Sources | null;
  /** Why the server, left to decide, did not search. */
  unsearched?: string;
  /** The same as a code. */
  why?: SearchReason | null;
  usage?: Usage | null;
  finishReason?: string | null;
  feedback?: Feedback | null;
  tokens?: TokenLogprob[];
  timing?: Timing;
  error?: string;
  /** Of an answer that is held back: what differs from what the settings say. */
  override?: Override;
}

/** What of an answer differs from what the settings say. */
export interface Override {
  search?: SearchMode | { query: string };
  model?: string | null;
  beginning?: Beginning;
}

export interface Timing {
  /** Seconds from sending to the first token. */
  firstToken: number;
  tokensPerSecond: number | null;
}

export const ROOT = "";

export const emptyThread: Thread = { byId: {}, order: [], chosen: {} };

/** A message of the page's own, which the server has not seen. */
export function newMessage(
  given: Pick<Message, "role" | "parentId" | "content" | "status">,
): Message {
  return { id: crypto.randomUUID(), createdAt: new Date().toISOString(), ...given };
}

/** What follows from a thread's order, which stays the same object while an answer is written. */
interface Shape {
  children: Map<string, string[]>;
  chosen?: Thread["chosen"];
  path: readonly string[];
}

const shapes = new WeakMap<Thread["order"], Shape>();
const none: readonly string[] = [];

function shapeOf(thread: Thread): Shape {
  let shape = shapes.get(thread.order);
  if (!shape) {
    const children = new Map<string, string[]>();
    for (const id of thread.order) {
      const parent = thread.byId[id]?.parentId ?? ROOT;
      const siblings = children.get(parent);
      if (siblings) siblings.push(id);
      else children.set(parent, [id]);
    }
    shape = { children, path: none };
    shapes.set(thread.order, shape);
  }
  return shape;
}

export function childrenOf(thread: Thread, parentId: string | null): readonly string[] {
  return shapeOf(thread).children.get(parentId ?? ROOT) ?? none;
}

export function siblingsOf(thread: Thread, id: string): readonly string[] {
  const message = thread.byId[id];
  return message ? childrenOf(thread, message.parentId) : none;
}

/** The ids from the first message to the newest, along the chosen branches. It is walked once for each shape. */
export function pathOf(thread: Thread): readonly string[] {
  const shape = shapeOf(thread);
  if (shape.chosen !== thread.chosen) {
    shape.path = walk(thread);
    shape.chosen = thread.chosen;
  }
  return shape.path;
}

function walk(thread: Thread): string[] {
  const path: string[] = [];
  let parent: string | null = null;
  for (;;) {
    const children: readonly string[] = childrenOf(thread, parent);
    const chosen: string | undefined = thread.chosen[parent ?? ROOT];
    const next: string | undefined = chosen && children.includes(chosen) ? chosen : children.at(-1);
    if (!next) return path;
    path.push(next);
    parent = next;
  }
}

/** The messages from the first one to `id`. */
export function ancestry(thread: Thread, id: string | null): Message[] {
  const found: Message[] = [];
  let at = id ? thread.byId[id] : undefined;
  while (at) {
    found.unshift(at);
    at = at.parentId ? thread.byId[at.parentId] : undefined;
  }
  return found;
}

export function append(thread: Thread, message: Message): Thread {
  return {
    byId: { ...thread.byId, [message.id]: message },
    order: [...thread.order, message.id],
    chosen: { ...thread.chosen, [message.parentId ?? ROOT]: message.id },
  };
}

export function update(thread: Thread, id: string, patch: Partial<Message>): Thread {
  const message = thread.byId[id];
  if (!message) return thread;
  return { ...thread, byId: { ...thread.byId, [id]: { ...message, ...patch } } };
}

export function choose(thread: Thread, id: string): Thread {
  const message = thread.byId[id];
  if (!message) return thread;
  return { ...thread, chosen: { ...thread.chosen, [message.parentId ?? ROOT]: id } };
}

/** The id on the page of what has an id there or at the server. */
export function shownAs(thread: Thread, serverId: string): string | undefined {
  return thread.order.find((id) => {
    const message = thread.byId[id];
    return id === serverId || message?.serverId === serverId || message?.copies?.includes(serverId);
  });
}

/** Chooses the branches on which a message stands. */
export function reveal(thread: Thread, id: string): Thread {
  return ancestry(thread, id).reduce((shown, message) => choose(shown, message.id), thread);
}

/** Notes an id under which the server keeps a question. */
export function nameQuestion(thread: Thread, id: string, serverId: string): Thread {
  const question = thread.byId[id];
  if (!question || question.serverId === serverId) return thread;
  if (!question.serverId) return update(thread, id, { serverId });
  const copies = [...(question.copies ?? []).filter((other) => other !== serverId), serverId];
  return update(thread, id, { copies });
}

/** Puts back messages that were taken away, each at its old place in `order`. */
export function restore(thread: Thread, before: Thread): Thread {
  const added = thread.order.filter((id) => !before.byId[id]);
  return {
    byId: { ...before.byId, ...thread.byId },
    order: [...before.order, ...added],
    chosen: { ...before.chosen, ...thread.chosen },
  };
}

/** Takes a message away with everything that follows it. */
export function remove(thread: Thread, id: string): Thread {
  const gone = new Set([id]);
  for (const other of thread.order) {
    const parent = thread.byId[other]?.parentId;
    if (parent && gone.has(parent)) gone.add(other);
  }
  const kept = thread.order.filter((other) => !gone.has(other));
  const byId = Object.fromEntries(kept.map((other) => [other, thread.byId[other] as Message]));
  return { ...thread, byId, order: kept };
}
