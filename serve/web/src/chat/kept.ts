import { create } from "zustand";
import type { Message, Thread } from "./tree";

/**
 * What this browser keeps of conversations because the server does not have it: questions that were
 * refused or are held back, and what had come of answers that were cut off.
 *
 * Every message has an entry of its own, so that two tabs do not overwrite what the other one keeps.
 */
const PREFIX = "resonance.kept.";
const LIMIT = { entries: 200, chars: 2_000_000 };

interface Entry {
  at: number;
  conversation: string;
  message: Message;
}

export interface KeptConversation {
  id: string;
  title: string;
  at: number;
}

/** Conversations whose first question is kept here, as the list shows them. */
export const useKept = create<{ conversations: readonly KeptConversation[] }>()(() => ({
  conversations: [],
}));

const nameOf = (conversation: string, id: string) => `${PREFIX}${conversation}.${id}`;

function read(): Map<string, Entry> {
  const found = new Map<string, Entry>();
  try {
    for (let i = 0; i < localStorage.length; i += 1) {
      const name = localStorage.key(i);
      const text = name?.startsWith(PREFIX) ? localStorage.getItem(name) : null;
      if (name && text) found.set(name, JSON.parse(text) as Entry);
    }
  } catch {
    // A browser without storage keeps nothing, and what is no entry of ours is none.
  }
  return found;
}

/** Whether the server has no copy of a message as it stands. */
export function isUnstored(message: Message): boolean {
  const { serverId, status, usage } = message;
  if (!serverId || ["streaming", "waiting", "dropped"].includes(status)) return true;
  // What is stored of a broken answer has its counts.
  return (status === "stopped" || status === "failed") && !usage;
}

/** The kept messages of a conversation, the oldest first. */
export function keptOf(conversation: string): Message[] {
  return [...read().values()]
    .filter((entry) => entry.conversation === conversation)
    .sort((a, b) => a.at - b.at)
    .map((entry) => entry.message);
}

/** The conversations in which messages are held back until the server is there. */
export function heldConversations(): string[] {
  const held = [...read().values()].filter(({ message }) => message.status === "waiting");
  return [...new Set(held.map((entry) => entry.conversation))];
}

/** Keeps a message of a thread as it is after a reload: what the server has is called by its id there. */
export function keep(conversation: string, thread: Thread, message: Message): void {
  const parent = message.parentId ? thread.byId[message.parentId] : undefined;
  const { tokens: _, ...rest } = message;
  const kept = {
    ...rest,
    id: message.serverId ?? message.id,
    parentId: parent?.serverId ?? message.parentId,
  };
  const at = Date.parse(message.createdAt) || Date.now();
  write(nameOf(conversation, message.id), { at, conversation, message: kept });
}

function write(name: string, entry: Entry): void {
  const text = JSON.stringify(entry);
  try {
    localStorage.setItem(name, text);
  } catch {
    makeRoom(text.length + LIMIT.chars / 4);
    try {
      localStorage.setItem(name, text);
    } catch {
      // There is no room at all: the message is on the page as long as that is open.
    }
  }
}

/** Drops the oldest entries until the rest is within the limit, less `room` characters. */
function makeRoom(room = 0): void {
  const entries = [...read()].sort(([, a], [, b]) => b.at - a.at);
  let chars = 0;
  entries.forEach(([name, entry], i) => {
    chars += JSON.stringify(entry).length;
    if (i >= LIMIT.entries || chars > LIMIT.chars - room) localStorage.removeItem(name);
  });
}

export function release(conversation: string, id: string): void {
  try {
    localStorage.removeItem(nameOf(conversation, id));
  } catch {
    // Nothing was kept.
  }
}

/** Drops everything that is kept of a conversation. */
export function releaseAll(conversation: string): void {
  for (const [name, entry] of read()) {
    if (entry.conversation === conversation) localStorage.removeItem(name);
  }
  noteKept();
}

/** Looks anew at what is kept, which another tab may have changed. */
export function noteKept(): void {
  makeRoom();
  const conversations = [...read().values()]
    .filter(({ message }) => message.role === "user" && message.parentId === null)
    .map(({ at, conversation, message }) => ({
      id: conversation,
      title: message.content.split(/\s+/).join(" ").slice(0, 60),
      at,
    }));
  const newest = new Map(conversations.map((one) => [one.id, one]));
  useKept.setState({ conversations: [...newest.values()].sort((a, b) => b.at - a.at) });
}
