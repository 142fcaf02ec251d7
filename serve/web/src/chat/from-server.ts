import type { Conversation, StoredMessage } from "@/api/types";
import { timingOf } from "./receive";
import {
  append,
  childrenOf,
  choose,
  emptyThread,
  type Message,
  nameQuestion,
  type Thread,
  update,
} from "./tree";

function sameQuestion(thread: Thread, parentId: string | null, content: string): string | null {
  const same = childrenOf(thread, parentId).find((id) => {
    const message = thread.byId[id];
    return message?.role === "user" && message.content === content;
  });
  return same ?? null;
}

function readStatus(message: StoredMessage): Message["status"] {
  if (message.finish_reason === "cancelled") return "stopped";
  if (message.finish_reason === "error") return "failed";
  return "done";
}

/**
 * Puts a stored conversation into a tree.
 *
 * A question may be stored more than once, as when it was asked again under another system prompt;
 * the same words after the same message are one question here, and its answers are siblings.
 * System prompts are not shown.
 */
export function threadFromServer(conversation: Conversation): Thread {
  let thread = emptyThread;
  const shownAs = new Map<string, string | null>();
  const systems = new Map<string, string>();
  for (const stored of conversation.messages) {
    const parentId = stored.parent_id ? (shownAs.get(stored.parent_id) ?? null) : null;
    if (stored.role === "system") {
      shownAs.set(stored.id, parentId);
      systems.set(stored.id, stored.content);
      continue;
    }
    const twin = stored.role === "user" ? sameQuestion(thread, parentId, stored.content) : null;
    if (twin) {
      thread = nameQuestion(choose(thread, twin), twin, stored.id);
      const system = systems.get(stored.parent_id ?? "");
      if (system !== undefined) thread = update(thread, twin, { system });
      shownAs.set(stored.id, twin);
      continue;
    }
    shownAs.set(stored.id, stored.id);
    thread = append(thread, {
      id: stored.id,
      serverId: stored.id,
      parentId,
      role: stored.role,
      system: systems.get(stored.parent_id ?? ""),
      content: stored.content,
      createdAt: stored.created_at,
      status: readStatus(stored),
      model: stored.model,
      sources: stored.sources,
      usage: stored.usage,
      timing: timingOf(stored.timing),
      finishReason: stored.finish_reason,
      feedback: stored.feedback,
    });
  }
  return thread;
}
