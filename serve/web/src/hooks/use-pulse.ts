import { useEffect } from "react";
import { request } from "@/api/client";
import { refreshConversations, useHealth } from "@/api/queries";
import type { ConversationPage } from "@/api/types";
import { sendAllHeld, syncConversation } from "@/chat/sync";

/** How often a page that is seen asks for what has changed elsewhere (ms). */
const PAUSE = 3_000;

/** What changes when anything is written or set: the newest conversation, as the list has it. */
async function look(): Promise<string | null> {
  try {
    const page = (await (await request("/v1/conversations?limit=1")).json()) as ConversationPage;
    const [newest] = page.data;
    return newest ? JSON.stringify(newest) : "";
  } catch {
    return null;
  }
}

/**
 * Shows what other tabs and devices of the same owner write: at once when the reader comes back to the
 * page, and within seconds while it is seen. Sends what was held back once the server is there.
 */
export function usePulse(conversation: string | null): void {
  const well = useHealth().data?.status === "ok";
  useEffect(() => {
    if (!well) return;
    sendAllHeld();
    let before: string | null = null;
    let ended = false;
    async function beat(returned = false) {
      if (document.visibilityState === "hidden" && !returned) return;
      sendAllHeld();
      const now = await look();
      if (ended || now === null) return;
      if (returned || (before !== null && now !== before)) {
        void refreshConversations();
        if (conversation) void syncConversation(conversation);
      }
      before = now;
    }
    const onReturn = () => void beat(document.visibilityState === "visible");
    const timer = setInterval(beat, PAUSE);
    void beat();
    window.addEventListener("focus", onReturn);
    document.addEventListener("visibilitychange", onReturn);
    return () => {
      ended = true;
      clearInterval(timer);
      window.removeEventListener("focus", onReturn);
      document.removeEventListener("visibilitychange", onReturn);
    };
  }, [well, conversation]);
}
