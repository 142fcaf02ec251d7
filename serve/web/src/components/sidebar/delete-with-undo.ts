import { toast } from "sonner";
import { deletePatiently } from "@/api/delete";
import { conversationPath, queryClient, refreshConversations, useDeleted } from "@/api/queries";
import { stop } from "@/chat/answering";
import { sentenceOf } from "@/chat/errors";
import { useChat } from "@/chat/store";
import { words } from "@/i18n";
import { conversationHref, navigate } from "@/lib/router";

const GRACE = 6_000;

/**
 * Takes a conversation off the list at once and off the server a few seconds later.
 *
 * Until then it can be brought back; leaving the page deletes it there and then.
 */
export function deleteWithUndo(id: string): void {
  const t = words();
  const open = window.location.pathname === conversationHref(id);
  useDeleted.setState(({ ids }) => ({ ids: [...ids, id] }));
  if (open) navigate("/");
  const list = () =>
    useDeleted.setState(({ ids }) => ({ ids: ids.filter((other) => other !== id) }));

  let pending = true;
  async function commit() {
    if (!pending) return;
    pending = false;
    window.removeEventListener("pagehide", commit);
    stop(id);
    try {
      await deletePatiently(conversationPath(id));
      useChat.getState().forget(id);
      queryClient.removeQueries({ queryKey: ["conversation", id] });
      await refreshConversations();
    } catch (reason) {
      toast.error(`${words().deleteFailed} ${sentenceOf(reason)}`);
    }
    list();
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
        list();
        if (open && window.location.pathname === "/") navigate(conversationHref(id));
      },
    },
  });
}
