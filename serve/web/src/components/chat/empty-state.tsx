import { useModels } from "@/api/queries";
import { useLanguage, useWords } from "@/i18n";
import { formatCount } from "@/lib/format";
import { Logo } from "../shell/logo";
import { useShownModel } from "../shell/model-picker";
import { suggestionsFor } from "./suggestions";

/** What a new chat shows: whom one talks to, and what it was trained to answer. */
export function EmptyState({ onPick }: { onPick: (text: string) => void }) {
  const t = useWords();
  const language = useLanguage();
  const { data: models } = useModels();
  const id = useShownModel();
  const card = models?.find((model) => model.id === id)?.resonance;
  return (
    <div className="mx-auto flex w-full max-w-3xl grow flex-col justify-center gap-6 sm:gap-8 px-4 py-8 sm:px-6">
      <div className="rise flex flex-col items-center gap-3 text-center">
        <Logo className="size-10 sm:size-12" />
        <h1 className="mt-2 text-balance font-semibold text-2xl tracking-tight sm:text-3xl">
          {t.greeting}
        </h1>
        {id && (
          <p className="text-balance text-muted-foreground text-sm">
            {t.greetingNote(id, card?.parameters ? formatCount(card.parameters, language) : null)}
          </p>
        )}
      </div>
      <ul
        aria-label={t.suggestions}
        className="grid gap-2.5 max-sm:[&>:nth-child(n+4)]:hidden sm:grid-cols-2"
      >
        {suggestionsFor(card).map(({ title, prompt }, i) => (
          <li key={prompt} className="rise" style={{ animationDelay: `${80 + i * 50}ms` }}>
            <button
              type="button"
              onClick={() => onPick(prompt)}
              className="glass flex h-full w-full flex-col gap-0.5 rounded-2xl px-4 py-3 text-left transition-[background-color,transform] hover:bg-accent/60 active:scale-[0.985]"
            >
              <span className="font-medium text-sm">{t[title]}</span>
              <span className="line-clamp-2 text-muted-foreground text-sm">{prompt}</span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
