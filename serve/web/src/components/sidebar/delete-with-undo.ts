import { toast } from "sonner";
import { request } from "@/api/client";
import { conversationPath, patchConversationLists, queryClient } from "@/api/queries";
import { sentenceOf } from "@/chat/errors";
import { useChat } from "@/chat/store";
import { words } from "@/i18n";

const GRACE = 6_000;

/**
 * Takes a conversation off the list at once and off the server a few seconds later.
 *
 * Until then it can be brought back; leaving the page deletes it there and then.
 */
export function deleteWithUndo(id: string): void {
  const t = words();
  patchConversationLists(queryClient, (page) => ({
    ...page,
    data: page.data.filter((one) => one.id !== id),
  }));
  const restore = () => queryClient.invalidateQueries({ queryKey: ["conversations"] });

  let pending = true;
  async function commit() {
    if (!pending) return;
    pending = false;
    window.removeEventListener("pagehide", commit);
    try {
      await request(conversationPath(id), { method: "DELETE", keepalive: true });
      useChat.getState().forget(id);
      queryClient.removeQueries({ queryKey: ["conversation", id] });
    } catch (reason) {
      toast.error(`${words().deleteFailed} ${sentenceOf(reason)}`);
    }
    void restore();
  }
  const timer = setTimeout(commit, GRACE);
  window.addEventListener("pagehide", commit);
  toast(t.deleted, {
    duration: GRACE,
    action: {
      label: t.undo,
      onClick: () => {
        pending = false;
        clearTimeout(timer);
        window.removeEventListener("pagehide", commit);
        void restore();
      },
    },
  });
}
