import { ApiError } from "@/api/client";
import { fetchConversation } from "@/api/queries";
import type { Conversation } from "@/api/types";
import { follow, isAnswering } from "./answering";
import { showBranches } from "./branches";
import { hiddenMessages } from "./hidden";
import { keepNow } from "./keeper";
import { heldConversations, keptOf } from "./kept";
import { mergeThread, restoreKept } from "./merge";
import { sendHeld } from "./session";
import { noteSources } from "./source-choice";
import { getThread, useChat } from "./store";
import { emptyThread, remove } from "./tree";

/** Where nothing of a conversation is stored, but something is kept in this browser. */
const unstored = (id: string): Conversation => ({
  id,
  title: null,
  created_at: "",
  updated_at: "",
  message_count: 0,
  messages: [],
});

/** A conversation as the server has it; an empty one where only this browser has any of it. */
export async function loadConversation(id: string, signal?: AbortSignal): Promise<Conversation> {
  try {
    return await fetchConversation(id, signal);
  } catch (reason) {
    const missing = reason instanceof ApiError && reason.status === 404;
    if (missing && keptOf(id).length > 0) return unstored(id);
    throw reason;
  }
}

/** Shows a conversation that was loaded, and goes on with the answer that is being written in it. */
export function showConversation(conversation: Conversation): void {
  const { id, answering } = conversation;
  if (isAnswering(id)) return;
  // What the server has not stored has the choice that this browser knows.
  if (conversation.messages.length > 0) noteSources(id, conversation.search_sources);
  useChat.getState().change(id, (shown) => {
    if (shown !== emptyThread && shown.order.length > 0)
      return mergeThread(shown, conversation, hiddenMessages);
    const stored = mergeThread(emptyThread, conversation, hiddenMessages);
    return showBranches(id, restoreKept(stored, keptOf(id), Boolean(answering)));
  });
  if (answering) {
    void follow(id, answering).then((followed) => (followed ? syncConversation(id) : undefined));
  }
}

/** Shows what has come to a conversation elsewhere: in another tab, or after its connection broke. */
export async function syncConversation(id: string): Promise<void> {
  if (isAnswering(id) || !useChat.getState().threads[id]) return;
  try {
    showConversation(await loadConversation(id));
  } catch {
    // It stays as it is until the next look.
  }
}

/** Runs `work` in one tab at a time; a browser without locks runs it. */
async function alone(name: string, work: () => Promise<void>): Promise<void> {
  if (!navigator.locks) return work();
  await navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
    if (lock) await work();
  });
}

/** Sends what was held back while the server was away, each conversation's in their order. */
export function sendAllHeld(): void {
  keepNow();
  for (const id of heldConversations()) void alone(`resonance.held.${id}`, () => sendAllOf(id));
}

async function sendAllOf(id: string): Promise<void> {
  const waiting = new Set(
    keptOf(id)
      .filter(({ status }) => status === "waiting")
      .map((message) => message.id),
  );
  if (!useChat.getState().threads[id]) showConversation(await loadConversation(id));
  else await syncConversation(id);
  for (const answer of getThread(id).order) {
    if (getThread(id).byId[answer]?.status !== "waiting") continue;
    if (waiting.has(answer)) await sendHeld(id, answer);
    // Another tab has sent it.
    else useChat.getState().change(id, (thread) => remove(thread, answer));
  }
  keepNow();
}
