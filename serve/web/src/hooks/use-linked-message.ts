import { useEffect } from "react";
import { useChat } from "@/chat/store";
import { reveal, shownAs } from "@/chat/tree";
import { useRoute } from "@/lib/router";

/**
 * The message of a conversation that the address names, as its id on the page.
 *
 * It is brought into view, on whichever branch it stands; `beforeScroll` is called first.
 */
export function useLinkedMessage(conversation: string, beforeScroll: () => void) {
  const route = useRoute();
  const { message } = route;
  const linked = useChat((state) => {
    const thread = state.threads[conversation];
    return message && thread ? shownAs(thread, message) : undefined;
  });
  // biome-ignore lint/correctness/useExhaustiveDependencies: following the same link again leads there again
  useEffect(() => {
    if (!linked) return;
    beforeScroll();
    useChat.getState().change(conversation, (thread) => reveal(thread, linked));
    const frame = requestAnimationFrame(() => {
      const article = document.getElementById(articleId(linked));
      article?.focus({ preventScroll: true });
      article?.scrollIntoView({ block: "center" });
    });
    return () => cancelAnimationFrame(frame);
  }, [conversation, linked, beforeScroll, route]);
  return linked;
}

export function articleId(message: string): string {
  return `message-${message}`;
}
