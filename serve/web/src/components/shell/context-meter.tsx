import { useHealth } from "@/api/queries";
import { useChat } from "@/chat/store";
import { emptyThread, pathOf } from "@/chat/tree";
import { Tooltip } from "@/components/ui/tooltip";
import { useWords } from "@/i18n";
import { cn } from "@/lib/utils";

/** How full the context window is, as the server counted at the newest answer. */
export function ContextMeter({ conversation }: { conversation: string }) {
  const t = useWords();
  const window = useHealth().data?.model?.context_length;
  const used = useChat((state) => {
    const thread = state.threads[conversation] ?? emptyThread;
    const counted = pathOf(thread).findLast((id) => thread.byId[id]?.usage);
    return counted ? (thread.byId[counted]?.usage?.total_tokens ?? 0) : 0;
  });
  if (!window || !used) return null;
  const share = Math.min(1, used / window);
  const words = t.contextMeter(used, window);
  return (
    <Tooltip content={words}>
      {/* biome-ignore lint/a11y/useSemanticElements: a native meter cannot be a ring */}
      <div
        role="meter"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: its tooltip is reached by keyboard
        tabIndex={0}
        aria-label={words}
        aria-valuemin={0}
        aria-valuemax={window}
        aria-valuenow={used}
        className="grid size-9 place-items-center rounded-lg"
      >
        <svg viewBox="0 0 20 20" aria-hidden="true" className="size-5 -rotate-90">
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
      </div>
    </Tooltip>
  );
}
