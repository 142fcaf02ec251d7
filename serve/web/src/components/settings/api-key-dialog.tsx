import { useState } from "react";
import { toast } from "sonner";
import { ApiError, request } from "@/api/client";
import { getApiKey, setApiKey } from "@/api/key";
import { queryClient, useModels } from "@/api/queries";
import { Button } from "@/components/ui/button";
import { Dialog, DialogContent, DialogDescription, DialogTitle } from "@/components/ui/dialog";
import { Input } from "@/components/ui/input";
import { useWords } from "@/i18n";
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
          onSaved={(key) => {
            close();
            toast.success(key ? t.apiKeySaved : t.apiKeyRemoved);
            void queryClient.invalidateQueries();
          }}
        />
      </DialogContent>
    </Dialog>
  );
}

/** A key that the server refuses is not kept. */
function KeyForm({ onSaved }: { onSaved: (key: string | null) => void }) {
  const t = useWords();
  const [draft, setDraft] = useState(() => getApiKey() ?? "");
  const [refused, setRefused] = useState(false);
  async function save() {
    const before = getApiKey();
    const key = draft.trim() || null;
    setApiKey(key);
    if (key === null || (await isAccepted())) return onSaved(key);
    setApiKey(before);
    setRefused(true);
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

/** Whether the server lets the kept key in; one that does not answer has not refused it. */
async function isAccepted(): Promise<boolean> {
  try {
    await request("/v1/models");
    return true;
  } catch (reason) {
    return !(reason instanceof ApiError && reason.status === 401);
  }
}
