import { useState } from "react";
import { toast } from "sonner";
import { ApiError, request } from "@/api/client";
import { getApiKey, setApiKey } from "@/api/key";
import { queryClient, useModels } from "@/api/queries";
import { forgetReader } from "@/chat/keeper";
import { useChat } from "@/chat/store";
import { Button } from "@/components/ui/button";
import { Dialog, DialogContent, DialogDescription, DialogTitle } from "@/components/ui/dialog";
import { Input } from "@/components/ui/input";
import { useWords } from "@/i18n";
import { page } from "@/lib/page";
import { useUi } from "@/lib/ui-store";

/** Asks for the API key when the server does, or when the reader wants to change it. */
export default function ApiKeyDialog() {
  const t = useWords();
  const open = useUi((state) => state.panel === "key");
  const { error } = useModels();
  const asked = error instanceof ApiError && error.status === 401;
  const close = () => useUi.getState().close();
  return (
    <Dialog open={open} onOpenChange={(next) => !next && close()}>
      <DialogContent>
        <DialogTitle>{t.apiKey}</DialogTitle>
        <DialogDescription>
          {asked ? `${t.apiKeyNeeded} ${t.apiKeyHint}` : t.apiKeyHint}
        </DialogDescription>
        <KeyForm
          onSaved={(key, changed) => {
            close();
            toast.success(key ? t.apiKeySaved : t.apiKeyRemoved);
            void queryClient.invalidateQueries();
            // What the tab has in memory belongs to the key before.
            if (changed) page.loadAnew();
          }}
        />
      </DialogContent>
    </Dialog>
  );
}

/** A key that the server refuses is not kept. `changed` says that another key, or none, was good until now. */
function KeyForm({ onSaved }: { onSaved: (key: string | null, changed: boolean) => void }) {
  const t = useWords();
  const [draft, setDraft] = useState(() => getApiKey() ?? "");
  const [refused, setRefused] = useState(false);
  async function save() {
    const before = getApiKey();
    const key = draft.trim() || null;
    if (key !== null && !(await isAccepted(key))) return setRefused(true);
    const changed = key !== before && (before !== null || hasChats());
    // What waits for its Undo is deleted with the key that it belongs to.
    if (changed) {
      window.dispatchEvent(new Event("pagehide"));
      forgetReader();
    }
    setApiKey(key);
    onSaved(key, changed);
  }
  return (
    <form
      className="flex flex-col gap-2"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <div className="flex gap-2">
        <Input
          type="password"
          autoComplete="off"
          aria-label={t.apiKey}
          aria-invalid={refused}
          value={draft}
          onChange={(event) => {
            setDraft(event.target.value);
            setRefused(false);
          }}
        />
        <Button type="submit">{t.save}</Button>
      </div>
      {refused && (
        <p role="alert" className="text-destructive text-sm">
          {t.apiKeyRefused}
        </p>
      )}
    </form>
  );
}

function hasChats(): boolean {
  return Object.keys(useChat.getState().threads).length > 0;
}

/** Whether the server lets a key in; one that does not answer has not refused it. */
async function isAccepted(key: string): Promise<boolean> {
  try {
    await request("/v1/models", { headers: { Authorization: `Bearer ${key}` } });
    return true;
  } catch (reason) {
    return !(reason instanceof ApiError && reason.status === 401);
  }
}
