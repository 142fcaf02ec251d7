import { FileText, LoaderCircle, Paperclip, X } from "lucide-react";
import { useRef, useState } from "react";
import { toast } from "sonner";
import { ACCEPTED, addFile, deleteFile, useFiles } from "@/api/files";
import { sentenceOf } from "@/chat/errors";
import { ActionButton } from "@/components/chat/action-button";
import { useWords } from "@/i18n";
import { openDocuments } from "@/lib/ui-store";

/** Adds files one after another; `adding` is the name of the one that the server reads. */
export function useAdd(conversation: string | null) {
  const t = useWords();
  const [adding, setAdding] = useState<string | null>(null);
  async function add(files: Iterable<File>) {
    for (const file of files) {
      setAdding(file.name);
      try {
        await addFile(file, conversation);
      } catch (reason) {
        toast.error(`${t.documentFailed(file.name)} ${sentenceOf(reason)}`);
      }
    }
    setAdding(null);
  }
  return { adding, add };
}

/** A button that asks for files of the kinds that the server reads. */
export function AddButton({
  label,
  onAdd,
  disabled,
}: {
  label: string;
  onAdd: (files: File[]) => void;
  disabled?: boolean;
}) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <ActionButton
        label={label}
        size="icon"
        className="rounded-full"
        disabled={disabled}
        onClick={() => input.current?.click()}
      >
        <Paperclip />
      </ActionButton>
      <input
        ref={input}
        type="file"
        multiple
        accept={ACCEPTED}
        aria-label={label}
        className="hidden"
        onChange={(event) => {
          const files = [...(event.target.files ?? [])];
          event.target.value = "";
          onAdd(files);
        }}
      />
    </>
  );
}

/** The documents of a conversation, above what is written. */
export function AttachmentChips({
  conversation,
  adding,
}: {
  conversation: string;
  adding: string | null;
}) {
  const t = useWords();
  const { data: files = [] } = useFiles();
  const own = files.filter((file) => file.conversation_id === conversation);
  if (own.length === 0 && !adding) return null;
  return (
    <ul aria-label={t.attached} className="flex flex-wrap gap-1.5 px-2 pt-1 pb-1.5">
      {own.map(({ id, filename }) => (
        <li
          key={id}
          className="flex min-w-0 max-w-64 items-center rounded-full border bg-card/70 text-xs"
        >
          <button
            type="button"
            aria-label={t.documentOpen(filename)}
            className="tap flex min-w-0 items-center gap-1.5 rounded-full py-1 pl-3"
            onClick={() => openDocuments({ id, passage: null })}
          >
            <FileText className="size-3.5 shrink-0 text-muted-foreground" />
            <bdi className="truncate">{filename}</bdi>
          </button>
          <ActionButton
            label={t.documentDelete(filename)}
            className="size-7 rounded-full"
            onClick={() =>
              deleteFile(id).catch((reason) =>
                toast.error(`${t.documentDeleteFailed} ${sentenceOf(reason)}`),
              )
            }
          >
            <X className="size-3.5" />
          </ActionButton>
        </li>
      ))}
      {adding && (
        <li
          role="status"
          className="flex items-center gap-1.5 rounded-full border px-3 py-1.5 text-muted-foreground text-xs"
        >
          <LoaderCircle className="size-3.5 animate-spin" />
          {t.documentAdding(adding)}
        </li>
      )}
    </ul>
  );
}
