import { ArrowLeft, Download, FileText, LoaderCircle, Trash2 } from "lucide-react";
import { useEffect, useRef } from "react";
import { toast } from "sonner";
import { deleteFile, fetchContent, type ServerFile, useFiles, useFileText } from "@/api/files";
import { sentenceOf } from "@/chat/errors";
import { ActionButton } from "@/components/chat/action-button";
import { DialogClose, DialogDescription, DialogTitle } from "@/components/ui/dialog";
import { Sheet, SheetContent } from "@/components/ui/sheet";
import { useLanguage, useWords } from "@/i18n";
import { saveBlob } from "@/lib/save-file";
import { type DocumentTarget, openDocuments, useUi } from "@/lib/ui-store";
import { cn } from "@/lib/utils";
import { AddButton, useAdd } from "./attachments";

/** The reader's documents, or one of them at the passage that a source stands for. */
export default function DocumentsSheet() {
  const t = useWords();
  const open = useUi((state) => state.panel === "documents");
  const target = useUi((state) => state.document);
  return (
    <Sheet open={open} onOpenChange={(next) => !next && useUi.getState().close()}>
      <SheetContent className="max-w-xl" aria-describedby={undefined}>
        {target ? <Reader key={target.id} target={target} /> : <List open={open} />}
        {!open && <DialogTitle className="sr-only">{t.documents}</DialogTitle>}
      </SheetContent>
    </Sheet>
  );
}

function List({ open }: { open: boolean }) {
  const t = useWords();
  const { data: files, error } = useFiles(open);
  const { adding, add } = useAdd(null);
  const groups = [
    [t.documentsLibrary, files?.filter((file) => file.conversation_id === null) ?? []],
    [t.documentsOfConversation, files?.filter((file) => file.conversation_id !== null) ?? []],
  ] as const;
  return (
    <>
      <div className="flex items-start justify-between gap-3 p-5 pb-3">
        <div>
          <DialogTitle>{t.documents}</DialogTitle>
          <DialogDescription>{t.documentsNote}</DialogDescription>
        </div>
        <div className="flex">
          <AddButton
            label={t.addToLibrary}
            disabled={adding !== null}
            onAdd={(chosen) => void add(chosen)}
          />
          <DialogClose />
        </div>
      </div>
      <div className="scroll-quiet flex grow flex-col gap-6 overflow-y-auto px-5 pb-8">
        {error && (
          <p role="alert" className="text-sm">{`${t.documentsFailed} ${sentenceOf(error)}`}</p>
        )}
        {adding && (
          <p role="status" className="flex items-center gap-2 text-muted-foreground text-sm">
            <LoaderCircle className="size-4 animate-spin" />
            {t.documentAdding(adding)}
          </p>
        )}
        {files?.length === 0 && !adding && (
          <p className="text-muted-foreground text-sm">{t.documentsNone}</p>
        )}
        {groups.map(
          ([name, own]) =>
            own.length > 0 && (
              <section key={name} aria-label={name}>
                <h3 className="mb-1 font-medium text-muted-foreground text-xs">{name}</h3>
                <ul>
                  {own.map((file) => (
                    <Row key={file.id} file={file} />
                  ))}
                </ul>
              </section>
            ),
        )}
      </div>
    </>
  );
}

function Row({ file: { id, filename, bytes } }: { file: ServerFile }) {
  const t = useWords();
  const language = useLanguage();
  const size = new Intl.NumberFormat(language, {
    style: "unit",
    unit: bytes < 1e6 ? "kilobyte" : "megabyte",
    maximumFractionDigits: 1,
  }).format(bytes / (bytes < 1e6 ? 1e3 : 1e6));
  return (
    <li className="flex items-center gap-1">
      <button
        type="button"
        aria-label={t.documentOpen(filename)}
        className="tap flex min-w-0 grow items-center gap-2.5 rounded-lg py-2 text-left text-sm hover:underline"
        onClick={() => openDocuments({ id, passage: null })}
      >
        <FileText className="size-4 shrink-0 text-muted-foreground" />
        <bdi className="truncate">{filename}</bdi>
      </button>
      <span className="shrink-0 text-muted-foreground text-xs tabular-nums">{size}</span>
      <ActionButton
        label={t.documentDelete(filename)}
        onClick={() =>
          deleteFile(id).catch((reason) =>
            toast.error(`${t.documentDeleteFailed} ${sentenceOf(reason)}`),
          )
        }
      >
        <Trash2 />
      </ActionButton>
    </li>
  );
}

function Reader({ target: { id, passage } }: { target: DocumentTarget }) {
  const t = useWords();
  const { data, error } = useFileText(id);
  const place = useRef<HTMLElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: once the text is there
  useEffect(() => {
    place.current?.scrollIntoView({ block: "center" });
    place.current?.focus({ preventScroll: true });
  }, [data, passage]);
  async function download() {
    try {
      saveBlob(data?.filename ?? id, await fetchContent(id));
    } catch (reason) {
      toast.error(sentenceOf(reason));
    }
  }
  return (
    <>
      <div className="flex items-center gap-1 p-4 pb-3">
        <ActionButton label={t.documents} onClick={() => openDocuments()}>
          <ArrowLeft className="rtl:-scale-x-100" />
        </ActionButton>
        <DialogTitle className="min-w-0 grow truncate text-base">
          <bdi>{data?.filename ?? t.documents}</bdi>
        </DialogTitle>
        <ActionButton label={t.documentDownload} disabled={!data} onClick={() => void download()}>
          <Download />
        </ActionButton>
        <DialogClose />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a long text is scrolled by keyboard too */}
      <div className="scroll-quiet grow overflow-y-auto px-5 pb-10 leading-relaxed" tabIndex={0}>
        {error && <p role="alert">{t.documentMissing}</p>}
        {data?.passages.map(({ title, text }, i) => {
          const here = i === passage;
          return (
            <section
              // biome-ignore lint/suspicious/noArrayIndexKey: a document does not change
              key={i}
              ref={here ? place : undefined}
              tabIndex={here ? -1 : undefined}
              aria-current={here || undefined}
              dir="auto"
              className={cn(
                "-mx-3 rounded-xl px-3 py-2 outline-none",
                here && "bg-primary/12 ring-1 ring-primary/40",
              )}
            >
              {title !== data.passages[i - 1]?.title && (
                <h3 className="mb-1 font-semibold text-sm">{title}</h3>
              )}
              <p className="whitespace-pre-wrap break-words text-sm">{text}</p>
            </section>
          );
        })}
      </div>
    </>
  );
}
