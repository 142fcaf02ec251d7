import { ApiError } from "@/api/client";
import { useShared } from "@/api/shares";
import { sentenceOf } from "@/chat/errors";
import { Answer } from "@/components/chat/answer-text";
import { Sources } from "@/components/chat/sources-list";
import { useTabTitle } from "@/hooks/use-tab-title";
import { useLanguage, useWords } from "@/i18n";
import { formatTime } from "@/lib/format";
import { Logo } from "../shell/logo";

/** A conversation that somebody shared: to be read, without keys and without anything of its owner. */
export default function SharedView({ id }: { id: string }) {
  const t = useWords();
  const language = useLanguage();
  const { data, error } = useShared(id);
  useTabTitle(data?.title);
  if (error) {
    const gone = error instanceof ApiError && error.status === 404;
    return (
      <p role="alert" className="m-auto max-w-md text-balance px-6 text-center">
        {gone ? t.sharedMissing : sentenceOf(error)}
      </p>
    );
  }
  if (!data) return null;
  return (
    <div className="scroll-quiet h-full overflow-y-auto">
      <div className="mx-auto flex max-w-3xl flex-col gap-6 px-4 py-10 sm:px-6">
        <header className="flex flex-col gap-2 border-b pb-6">
          <a href="/" className="flex items-center gap-2 font-semibold text-sm">
            <Logo className="size-6" />
            {t.appName}
          </a>
          <h1 dir="auto" className="text-balance font-semibold text-2xl tracking-tight">
            {data.title || t.untitled}
          </h1>
          <p className="text-muted-foreground text-sm">
            {t.sharedBy(formatTime(data.expires_at, language))}
          </p>
        </header>
        {data.messages.map(({ role, content, model, sources }, i) => (
          <article
            // biome-ignore lint/suspicious/noArrayIndexKey: a copy does not change
            key={i}
            data-role={role}
            aria-label={role === "user" ? t.question : (model ?? t.model)}
          >
            {role === "user" ? (
              <div
                dir="auto"
                className="ml-auto w-fit max-w-[85%] whitespace-pre-wrap break-words rounded-3xl rounded-br-lg bg-bubble px-4.5 py-2.5 leading-relaxed"
              >
                {content}
              </div>
            ) : (
              <>
                {sources && sources.sources.length > 0 && (
                  <Sources sources={sources.sources} anchor={`source-${i}`} />
                )}
                <Answer
                  text={content}
                  citations={
                    sources?.sources.length
                      ? {
                          ids: sources.sources.map((source) => String(source.id)),
                          anchor: `source-${i}`,
                        }
                      : undefined
                  }
                />
                {model && <p className="mt-2 text-muted-foreground text-xs">{model}</p>}
              </>
            )}
          </article>
        ))}
        <p className="text-muted-foreground text-xs">{t.disclaimer}</p>
      </div>
    </div>
  );
}
