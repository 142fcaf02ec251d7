import { ChevronLeft, ChevronRight } from "lucide-react";
import { showVersion } from "@/chat/session";
import { useSiblings } from "@/chat/store";
import { useWords } from "@/i18n";
import { ActionButton } from "./action-button";

/** Leafs through the versions of a message: other answers, or other wordings of a question. */
export function VersionSwitch({ conversation, id }: { conversation: string; id: string }) {
  const t = useWords();
  const siblings = useSiblings(conversation, id);
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(id);
  const go = (to: number) => showVersion(conversation, siblings[to] as string);
  return (
    <div className="flex items-center text-muted-foreground text-xs tabular-nums">
      <ActionButton label={t.previousVersion} disabled={at === 0} onClick={() => go(at - 1)}>
        <ChevronLeft />
      </ActionButton>
      <span>
        <span aria-hidden="true">
          {at + 1}/{siblings.length}
        </span>
        <span className="sr-only">{t.version(at + 1, siblings.length)}</span>
      </span>
      <ActionButton
        label={t.nextVersion}
        disabled={at === siblings.length - 1}
        onClick={() => go(at + 1)}
      >
        <ChevronRight />
      </ActionButton>
    </div>
  );
}
