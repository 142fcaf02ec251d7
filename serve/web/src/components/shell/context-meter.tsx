import { useChat } from "@/chat/store";
import { emptyThread, pathOf } from "@/chat/tree";
import { Button } from "@/components/ui/button";
import { Tooltip } from "@/components/ui/tooltip";
import { useWords } from "@/i18n";
import { openPromptView } from "@/lib/ui-store";
import { cn } from "@/lib/utils";
import { useContextLength } from "./model-picker";

/** How full the context window is, as the server counted at the newest answer; shows what is in it. */
export function ContextMeter({ conversation }: { conversation: string }) {
  const t = useWords();
  const window = useContextLength();
  const used = useChat((state) => {
    const thread = state.threads[conversation] ?? emptyThread;
    const counted = pathOf(thread).findLast((id) => thread.byId[id]?.usage);
    return counted ? (thread.byId[counted]?.usage?.total_tokens ?? 0) : 0;
  });
  if (!window || !used) return null;
  const share = Math.min(1, used / window);
  const words = t.contextMeter(used, window);
  return (
    <Tooltip content={`${words} ${t.seePrompt}`}>
      <Button
        variant="ghost"
        size="icon"
        aria-label={`${words} ${t.seePrompt}`}
        onClick={() => openPromptView({ conversation })}
      >
        <svg viewBox="0 0 20 20" aria-hidden="true" className="size-5! -rotate-90">
          <circle
            cx="10"
            cy="10"
            r="7.5"
            className="fill-none stroke-foreground/15"
            strokeWidth="3"
          />
          <circle
            cx="10"
            cy="10"
            r="7.5"
            pathLength="1"
            strokeDasharray={`${share} 1`}
            strokeWidth="3"
            className={cn(
              "fill-none transition-[stroke-dasharray] duration-500",
              share > 0.85 ? "stroke-destructive" : "stroke-primary",
            )}
          />
        </svg>
      </Button>
    </Tooltip>
  );
}
