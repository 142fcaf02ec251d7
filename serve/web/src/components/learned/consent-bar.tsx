import { Button } from "@/components/ui/button";
import { setConsent, useConsent } from "@/learned/consent";
import { useLearnedWords } from "@/learned/words";
import { useSettings } from "@/settings/store";

/** Asks below everything else, and over nothing, whether training may use what the reader judges. */
export function ConsentBar() {
  return useSettings((state) => state.consentQuestion) === "open" ? <Question /> : null;
}

function Question() {
  const t = useLearnedWords();
  const set = useSettings((state) => state.set);
  const { data } = useConsent();
  if (data?.policy !== "ask" || data.changed_at) return null;
  return (
    <section
      aria-label={t.ask}
      aria-live="polite"
      className="glass flex shrink-0 flex-wrap items-center justify-end gap-2 border-x-0 border-b-0 px-4 py-3 text-sm"
    >
      <div className="min-w-60 grow basis-1/2">
        <p className="font-medium">{t.ask}</p>
        <p className="text-muted-foreground text-xs leading-relaxed">{t.askNote}</p>
      </div>
      <div className="flex gap-2">
        <Button variant="ghost" size="sm" onClick={() => set({ consentQuestion: "put off" })}>
          {t.later}
        </Button>
        <Button variant="secondary" size="sm" onClick={() => void setConsent(false)}>
          {t.no}
        </Button>
        <Button size="sm" onClick={() => void setConsent(true)}>
          {t.yes}
        </Button>
      </div>
    </section>
  );
}
