import { ArrowUp, Square } from "lucide-react";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef } from "react";
import { useDraft } from "@/chat/drafts";
import { editNewest } from "@/chat/editing";
import { isLarge, joinPastes, readPastes } from "@/chat/pastes";
import { AddButton, AttachmentChips, useAdd } from "@/components/documents/attachments";
import { Button } from "@/components/ui/button";
import { StartOrStop } from "@/components/ui/start-or-stop";
import { useMediaQuery } from "@/hooks/use-media-query";
import { useWords } from "@/i18n";
import { COMPOSER_ID, focusComposer } from "@/lib/focus";
import { PasteChips } from "./paste-chips";
import { SearchMenu } from "./search-menu";
import { TokenCount } from "./token-count";

interface ComposerProps {
  /** The conversation whose draft this is, or null for the next new one. */
  conversation: string | null;
  /** The conversation that documents are attached to; none where they cannot be. */
  attachTo?: string;
  busy: boolean;
  onSend: (text: string) => void;
  onStop: () => void;
}

/**
 * Where messages are written. Enter sends and Shift+Enter makes a new line, on a phone Enter does; Escape stops.
 * The up arrow in an empty field edits the newest question.
 */
export function Composer({ conversation, attachTo, busy, onSend, onStop }: ComposerProps) {
  const t = useWords();
  const touch = useMediaQuery("(pointer: coarse)");
  const [draft, setDraft] = useDraft(conversation);
  const { adding, add } = useAdd(attachTo ?? null);
  const field = useRef<HTMLTextAreaElement>(null);
  const [kept, setKept] = useDraft(`${conversation ?? "new"}.pasted`);
  const pastes = useMemo(() => readPastes(kept), [kept]);
  const setPastes = (next: string[]) => setKept(next.length > 0 ? JSON.stringify(next) : "");
  const whole = joinPastes(draft, pastes);
  const ready = whole !== "" && !busy;

  // Wherever the reader goes, the next thing is usually to write.
  // biome-ignore lint/correctness/useExhaustiveDependencies: anew for each conversation
  useEffect(focusComposer, [conversation]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the height follows the text
  useLayoutEffect(() => {
    const area = field.current;
    if (!area) return;
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight, window.innerHeight * 0.4)}px`;
  }, [draft]);

  function submit() {
    if (!ready) return;
    setDraft("");
    setPastes([]);
    onSend(whole);
    field.current?.focus();
  }

  /** Where the answer ends while its Stop has the focus, the field gets it. */
  const keepFocus = useCallback((stop: HTMLButtonElement) => {
    return () => {
      if (document.activeElement === stop) field.current?.focus();
    };
  }, []);

  return (
    <div className="mx-auto w-full max-w-3xl px-3 pb-2 sm:px-6">
      <form
        className="glass flex flex-col rounded-[1.75rem] p-2 transition-shadow focus-within:border-ring/60"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        {attachTo && <AttachmentChips conversation={attachTo} adding={adding} />}
        <PasteChips
          pastes={pastes}
          onUnfold={(index) => {
            setDraft(joinPastes(draft, [pastes[index] ?? ""]));
            setPastes(pastes.filter((_, i) => i !== index));
            field.current?.focus();
          }}
          onRemove={(index) => {
            setPastes(pastes.filter((_, i) => i !== index));
            field.current?.focus();
          }}
        />
        <textarea
          id={COMPOSER_ID}
          ref={field}
          aria-label={t.message}
          placeholder={t.placeholder}
          enterKeyHint={touch ? "enter" : "send"}
          dir="auto"
          rows={1}
          value={draft}
          className="tap scroll-quiet resize-none bg-transparent px-3 pt-2 pb-1 leading-relaxed outline-none placeholder:text-muted-foreground"
          onChange={(event) => setDraft(event.target.value)}
          onPaste={(event) => {
            const text = event.clipboardData.getData("text/plain");
            if (!isLarge(text)) return;
            event.preventDefault();
            setPastes([...pastes, text]);
          }}
          onKeyDown={(event) => {
            if (event.key === "Escape" && busy) onStop();
            if (event.key === "ArrowUp" && draft === "" && conversation && !busy) {
              if (editNewest(conversation)) event.preventDefault();
            }
            if (event.key !== "Enter" || event.nativeEvent.isComposing) return;
            // A phone's keyboard has no Shift+Enter; there the button sends, or Ctrl+Enter of a real keyboard.
            if (event.shiftKey || (touch && !event.ctrlKey && !event.metaKey)) return;
            event.preventDefault();
            submit();
          }}
        />
        <div className="flex items-center justify-between gap-2">
          <div className="flex min-w-0 items-center">
            {attachTo && (
              <AddButton
                label={t.attach}
                disabled={adding !== null}
                onAdd={(files) => void add(files)}
              />
            )}
            <SearchMenu conversation={conversation} />
          </div>
          <TokenCount conversation={conversation} text={whole} />
          <StartOrStop
            running={busy}
            start={
              <Button
                type="submit"
                size="icon"
                aria-label={t.send}
                disabled={!ready}
                className="rounded-full"
              >
                <ArrowUp className="size-4.5" />
              </Button>
            }
            stop={
              <Button
                ref={keepFocus}
                size="icon"
                aria-label={t.stop}
                className="rounded-full"
                onClick={() => {
                  onStop();
                  field.current?.focus();
                }}
              >
                <Square className="size-3.5 fill-current" />
              </Button>
            }
          />
        </div>
      </form>
      <p className="mx-auto mt-1.5 hidden w-fit rounded-full xs:block bg-background/70 px-2 text-center text-[0.7rem] text-muted-foreground">
        {t.disclaimer}
      </p>
    </div>
  );
}
