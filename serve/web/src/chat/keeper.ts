import { useSettings } from "@/settings/store";
import { isUnstored, keep, noteKept, release } from "./kept";
import { useChat } from "./store";
import { isTemporary } from "./temporary";
import { emptyThread, type Thread } from "./tree";

/** How often what is being written is kept (ms). */
const PAUSE = 500;

const changed = new Map<string, Set<string>>();
let timer: ReturnType<typeof setTimeout> | undefined;

/** Notes what has changed; returns whether it is more than the text: a message's status or its name. */
function note(conversation: string, before: Thread, after: Thread): boolean {
  const ids = changed.get(conversation) ?? new Set();
  let moved = false;
  for (const id of new Set([...before.order, ...after.order])) {
    const [old, now] = [before.byId[id], after.byId[id]];
    if (old === now || !((old && isUnstored(old)) || (now && isUnstored(now)))) continue;
    ids.add(id);
    moved ||= now?.status !== old?.status || now?.serverId !== old?.serverId;
  }
  if (ids.size > 0) changed.set(conversation, ids);
  return moved;
}

/** Keeps at once what has changed. */
export function keepNow(): void {
  clearTimeout(timer);
  timer = undefined;
  if (changed.size === 0) return;
  const { threads } = useChat.getState();
  for (const [conversation, ids] of changed) {
    const thread = threads[conversation];
    for (const id of ids) {
      const message = thread?.byId[id];
      if (thread && message && isUnstored(message)) keep(conversation, thread, message);
      else release(conversation, id);
      if (message?.serverId && !isUnstored(message)) release(conversation, message.serverId);
    }
  }
  changed.clear();
  noteKept();
}

/** Forgets all that is kept here and keeps nothing more: the reader is another one from now on. */
export function forgetReader(): void {
  end();
  changed.clear();
  clearTimeout(timer);
  for (const name of Object.keys(localStorage)) {
    if (/^resonance\.(kept|draft|branches)\./.test(name)) localStorage.removeItem(name);
  }
  useSettings.getState().set({ consentQuestion: "unasked" });
}

let end = () => {};

/** Keeps in this browser whatever the server does not have; returns what ends that. */
export function startKeeping(): () => void {
  noteKept();
  const unsubscribe = useChat.subscribe((state, before) => {
    if (state.threads === before.threads) return;
    let moved = false;
    for (const [conversation, thread] of Object.entries(state.threads)) {
      const old = before.threads[conversation];
      // A temporary conversation is kept nowhere.
      if (old !== thread && !isTemporary(conversation))
        moved = note(conversation, old ?? emptyThread, thread) || moved;
    }
    // Another tab would take what is still kept here for an answer that was cut off.
    if (moved) keepNow();
    else if (changed.size > 0) timer ??= setTimeout(keepNow, PAUSE);
  });
  window.addEventListener("pagehide", keepNow);
  window.addEventListener("storage", noteKept);
  end = () => {
    unsubscribe();
    window.removeEventListener("pagehide", keepNow);
    window.removeEventListener("storage", noteKept);
  };
  return end;
}
