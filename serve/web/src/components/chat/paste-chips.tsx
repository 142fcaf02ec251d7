import { TextCursorInput, X } from "lucide-react";
import { useLanguage, useWords } from "@/i18n";
import { ActionButton } from "./action-button";

interface PasteChipsProps {
  pastes: readonly string[];
  onUnfold: (index: number) => void;
  onRemove: (index: number) => void;
}

/** Large pasted texts, folded: each with its beginning and its length. */
export function PasteChips({ pastes, onUnfold, onRemove }: PasteChipsProps) {
  const t = useWords();
  const language = useLanguage();
  if (pastes.length === 0) return null;
  return (
    <ul aria-label={t.pasted} className="flex flex-wrap gap-2 px-1 pt-1 pb-1.5">
      {pastes.map((text, i) => (
        <li
          // biome-ignore lint/suspicious/noArrayIndexKey: the same text may be pasted twice
          key={i}
          className="flex max-w-full items-center gap-1 rounded-2xl bg-foreground/6 py-0.5 pr-0.5 pl-3.5"
        >
          <span className="min-w-0">
            <span className="block max-w-52 truncate text-sm">{text.trim().slice(0, 80)}</span>
            <span className="block text-muted-foreground text-xs tabular-nums">
              {t.pastedChars(text.length.toLocaleString(language))}
            </span>
          </span>
          <ActionButton label={t.unfoldPaste} onClick={() => onUnfold(i)}>
            <TextCursorInput />
          </ActionButton>
          <ActionButton label={t.removePaste} onClick={() => onRemove(i)}>
            <X />
          </ActionButton>
        </li>
      ))}
    </ul>
  );
}
