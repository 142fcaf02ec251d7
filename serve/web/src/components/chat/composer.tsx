import { ArrowUp, Square } from "lucide-react";
import { useEffect, useLayoutEffect, useMemo, useRef } from "react";
import { useDraft } from "@/chat/drafts";
import { isLarge, joinPastes, readPastes } from "@/chat/pastes";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { COMPOSER_ID, focusComposer } from "@/lib/focus";
import { PasteChips } from "./paste-chips";
import { SearchMenu } from "./search-menu";
import { TokenCount } from "./token-count";

interface ComposerProps {
  /** The conversation whose draft this is, or null for the next new one. */
  conversation: string | null;
  busy: boolean;
  onSend: (text: string) => void;
  onStop: () => void;
}

/** Where messages are written. Enter sends, Shift+Enter makes a new line, Escape stops. */
export function Composer({ conversation, busy, onSend, onStop }: ComposerProps) {
  const t = useWords();
  const [draft, setDraft] = useDraft(conversation);
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

  return (
    <div className="mx-auto w-full max-w-3xl px-3 pb-2 sm:px-6">
      <form
        className="glass flex flex-col rounded-[1.75rem] p-2 transition-shadow focus-within:border-ring/60"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
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
          enterKeyHint="send"
          rows={1}
          value={draft}
          className="scroll-quiet resize-none bg-transparent px-3 pt-2 pb-1 leading-relaxed outline-none placeholder:text-muted-foreground"
          onChange={(event) => setDraft(event.target.value)}
          onPaste={(event) => {
            const text = event.clipboardData.getData("text/plain");
            if (!isLarge(text)) return;
            event.preventDefault();
            setPastes([...pastes, text]);
          }}
          onKeyDown={(event) => {
            if (event.key === "Escape" && busy) onStop();
            if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
            event.preventDefault();
            submit();
          }}
        />
        <div className="flex items-center justify-between gap-2">
          <SearchMenu />
          <TokenCount conversation={conversation} text={whole} />
          {busy ? (
            <Button
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
          ) : (
            <Button
              type="submit"
              size="icon"
              aria-label={t.send}
              disabled={!ready}
              className="rounded-full"
            >
              <ArrowUp className="size-4.5" />
            </Button>
          )}
        </div>
      </form>
      <p className="mx-auto mt-1.5 hidden w-fit rounded-full xs:block bg-background/70 px-2 text-center text-[0.7rem] text-muted-foreground">
        {t.disclaimer}
      </p>
    </div>
  );
}
