import { useState } from "react";
import { toast } from "sonner";
import { ApiError } from "@/api/client";
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
          onSave={(key) => {
            setApiKey(key || null);
            close();
            toast.success(key ? t.apiKeySaved : t.apiKeyRemoved);
            void queryClient.invalidateQueries();
          }}
        />
      </DialogContent>
    </Dialog>
  );
}

function KeyForm({ onSave }: { onSave: (key: string) => void }) {
  const t = useWords();
  const [key, setKey] = useState(() => getApiKey() ?? "");
  return (
    <form
      className="flex gap-2"
      onSubmit={(event) => {
        event.preventDefault();
        onSave(key.trim());
      }}
    >
      <Input
        type="password"
        autoComplete="off"
        aria-label={t.apiKey}
        value={key}
        onChange={(event) => setKey(event.target.value)}
      />
      <Button type="submit">{t.save}</Button>
    </form>
  );
}
