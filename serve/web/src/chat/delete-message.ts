import { toast } from "sonner";
import { deleteWithUndo } from "@/components/sidebar/delete-with-undo";
import { words } from "@/i18n";
import { hiddenMessages } from "./hidden";
import { drop } from "./session";
import { getThread, useChat } from "./store";
import { remove, restore } from "./tree";

const GRACE = 6_000;

/**
 * Takes a message, and what follows it, off the page at once and off the server a few seconds later.
 *
 * Until then it can be brought back; leaving the page deletes it there and then. Without its last
 * message a conversation goes as a whole.
 */
export function deleteMessage(conversation: string, id: string): void {
  const t = words();
  const { change } = useChat.getState();
  const before = getThread(conversation);
  const after = remove(before, id);
  if (after.order.length === 0) {
    deleteWithUndo(conversation);
    return;
  }
  const gone = before.order
    .filter((one) => !after.byId[one])
    .flatMap((one) => before.byId[one] ?? [])
    .flatMap(({ serverId, copies = [] }) => [...(serverId ? [serverId] : []), ...copies]);
  for (const serverId of gone) hiddenMessages.add(serverId);
  change(conversation, () => after);
  const undo = () => {
    for (const serverId of gone) hiddenMessages.delete(serverId);
    change(conversation, (thread) => restore(thread, before));
  };

  let pending = true;
  async function commit() {
    if (!pending) return;
    pending = false;
    window.removeEventListener("pagehide", commit);
    try {
      // The newest first: what follows a message would else be hung on the one before it.
      for (const serverId of gone.toReversed()) await drop(conversation, serverId);
    } catch {
      undo();
      toast.error(words().messageDeleteFailed);
    }
  }
  const timer = setTimeout(commit, GRACE);
  window.addEventListener("pagehide", commit);
  toast(t.messageDeleted(before.order.length - after.order.length), {
    duration: GRACE,
    action: {
      label: t.undo,
      onClick: () => {
        pending = false;
        clearTimeout(timer);
        window.removeEventListener("pagehide", commit);
        undo();
      },
    },
  });
}
