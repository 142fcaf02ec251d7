import { Ellipsis, FileDown, FileUp, Trash2 } from "lucide-react";
import { useRef, useState } from "react";
import { toast } from "sonner";
import { deletePatiently } from "@/api/delete";
import { type Export, exports, fetchExport, importConversations } from "@/api/exchange";
import { queryClient, refreshConversations } from "@/api/queries";
import { stop } from "@/chat/answering";
import { sentenceOf } from "@/chat/errors";
import { useChat } from "@/chat/store";
import { Button } from "@/components/ui/button";
import { Dialog, DialogContent, DialogDescription, DialogTitle } from "@/components/ui/dialog";
import {
  DropdownMenu,
  DropdownMenuItem,
  DropdownMenuLabel,
  DropdownMenuSeparator,
} from "@/components/ui/dropdown-menu";
import { useWords } from "@/i18n";
import { navigate } from "@/lib/router";
import { saveFile } from "@/lib/save-file";

/** What can be done with all conversations together: import, export, delete. */
export function ListMenu() {
  const t = useWords();
  const file = useRef<HTMLInputElement>(null);
  const trigger = useRef<HTMLButtonElement>(null);
  const [asking, setAsking] = useState(false);
  const names: Record<Export, string> = {
    conversations: t.exportConversations,
    training: t.exportTraining,
    preferences: t.exportPreferences,
  };
  return (
    <>
      <DropdownMenu
        trigger={
          <Button ref={trigger} variant="ghost" size="icon" aria-label={t.listActions}>
            <Ellipsis />
          </Button>
        }
        align="end"
        className="w-64"
      >
        <DropdownMenuItem onSelect={() => file.current?.click()}>
          <FileUp />
          {t.importFile}
        </DropdownMenuItem>
        <DropdownMenuSeparator />
        <DropdownMenuLabel>{t.exportAs}</DropdownMenuLabel>
        {exports.map((name) => (
          <DropdownMenuItem key={name} onSelect={() => void save(name, t.exportNothing)}>
            <FileDown />
            {names[name]}
          </DropdownMenuItem>
        ))}
        <DropdownMenuSeparator />
        <DropdownMenuItem variant="destructive" onSelect={() => setAsking(true)}>
          <Trash2 />
          {t.deleteAll}
        </DropdownMenuItem>
      </DropdownMenu>
      <input
        ref={file}
        type="file"
        accept=".json,.jsonl,.ndjson"
        aria-label={t.importFile}
        className="hidden"
        onChange={(event) => {
          const [chosen] = event.target.files ?? [];
          event.target.value = "";
          if (chosen) void takeIn(chosen, t.imported);
        }}
      />
      <Dialog open={asking} onOpenChange={setAsking}>
        <DialogContent
          onCloseAutoFocus={(event) => {
            event.preventDefault();
            trigger.current?.focus();
          }}
        >
          <DialogTitle>{t.deleteAllTitle}</DialogTitle>
          <DialogDescription>{t.deleteAllNote}</DialogDescription>
          <div className="flex justify-end gap-2">
            <Button variant="ghost" onClick={() => setAsking(false)}>
              {t.cancel}
            </Button>
            <Button
              variant="destructive"
              onClick={() => {
                setAsking(false);
                void deleteAll();
              }}
            >
              {t.deleteAll}
            </Button>
          </div>
        </DialogContent>
      </Dialog>
    </>
  );
}

async function save(name: Export, nothing: string): Promise<void> {
  try {
    const lines = await fetchExport(name);
    if (lines) saveFile(`${name}.jsonl`, "application/x-ndjson", lines);
    else toast(nothing);
  } catch (reason) {
    toast.error(sentenceOf(reason));
  }
}

async function takeIn(
  file: File,
  said: (imported: number, skipped: number) => string,
): Promise<void> {
  try {
    const { imported, skipped } = await importConversations(await file.text());
    toast.success(said(imported, skipped));
    void refreshConversations();
  } catch (reason) {
    toast.error(sentenceOf(reason));
  }
}

async function deleteAll(): Promise<void> {
  try {
    for (const conversation of Object.keys(useChat.getState().live)) stop(conversation);
    await deletePatiently("/v1/conversations");
    useChat.setState({ threads: {}, live: {} });
    navigate("/");
    queryClient.removeQueries({ queryKey: ["conversation"] });
    void refreshConversations();
  } catch (reason) {
    toast.error(sentenceOf(reason));
  }
}
