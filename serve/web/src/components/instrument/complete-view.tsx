import { PenLine, Play, Square } from "lucide-react";
import { useState } from "react";
import type { TokenAlternative } from "@/api/types";
import { speedOf } from "@/chat/receive";
import { TokenText } from "@/components/chat/token-text";
import { useSampling, useShownModel } from "@/components/shell/model-picker";
import { Button } from "@/components/ui/button";
import { Textarea } from "@/components/ui/textarea";
import { useLanguage, useWords } from "@/i18n";
import { useAnswer } from "@/instrument/use-answer";
import { formatNumber } from "@/lib/format";
import { ViewHeading } from "./view-heading";

/** Text that a model goes on with as it stands: what a base model is for. */
export default function CompleteView() {
  const t = useWords();
  const language = useLanguage();
  const model = useShownModel();
  const { seed, stop: stops, ...sampling } = useSampling();
  const [text, setText] = useState("");
  const { answer, ask, stop, clear } = useAnswer("/v1/completions");
  const tokens = answer.tokens ?? [];
  const begun = answer.running || answer.content !== "";
  const speed = speedOf(answer)?.tokensPerSecond;

  function go(prompt: string) {
    if (!prompt) return;
    setText(prompt);
    void ask({
      model: model ?? undefined,
      prompt,
      ...sampling,
      seed: seed ?? undefined,
      stop: stops.length > 0 ? stops : undefined,
      logprobs: 5,
      stream: true,
      stream_options: { include_usage: true },
    });
  }

  function fork(index: number, { token }: TokenAlternative) {
    go(
      text +
        tokens
          .slice(0, index)
          .map((one) => one.token)
          .join("") +
        token,
    );
  }

  return (
    <div className="scroll-quiet h-full overflow-y-auto pt-16">
      <div className="mx-auto flex max-w-3xl flex-col gap-5 p-4 sm:p-6">
        <ViewHeading title={t.complete} note={t.completeNote} />
        <div className="glass flex flex-col gap-3 rounded-3xl p-4">
          {begun ? (
            <div className="px-1 leading-8" aria-busy={answer.running} aria-live="off">
              <span className="whitespace-pre-wrap break-words">{text}</span>
              {tokens.length > 0 ? (
                <TokenText tokens={tokens} onFork={fork} inline />
              ) : (
                <span className="whitespace-pre-wrap text-primary">{answer.content}</span>
              )}
            </div>
          ) : (
            <Textarea
              aria-label={t.completeText}
              placeholder={t.completePlaceholder}
              className="min-h-40 border-0 bg-transparent text-base leading-8 focus-visible:outline-none"
              value={text}
              autoFocus
              onChange={(event) => setText(event.target.value)}
              onKeyDown={(event) => {
                if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) go(text);
              }}
            />
          )}
          {answer.error && (
            <p role="alert" className="text-destructive text-sm">
              {answer.error}
            </p>
          )}
          <div className="flex items-center justify-end gap-2">
            {speed && (
              <span className="mr-auto text-muted-foreground text-xs tabular-nums">
                {t.tokensPerSecond(formatNumber(speed, language))}
              </span>
            )}
            {begun && !answer.running && (
              <Button
                variant="ghost"
                onClick={() => {
                  setText(text + answer.content);
                  clear();
                }}
              >
                <PenLine />
                {t.editText}
              </Button>
            )}
            {answer.running ? (
              <Button onClick={stop}>
                <Square className="size-3.5 fill-current" />
                {t.stop}
              </Button>
            ) : (
              <Button disabled={text === ""} onClick={() => go(text + answer.content)}>
                <Play />
                {t.continueText}
              </Button>
            )}
          </div>
        </div>
      </div>
    </div>
  );
}
