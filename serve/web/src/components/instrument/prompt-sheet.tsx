import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { requestJson } from "@/api/client";
import type { RenderedPrompt } from "@/api/types";
import { systemAt } from "@/chat/choices";
import { sentenceOf } from "@/chat/errors";
import { requestFor, sameGround } from "@/chat/session";
import { getThread } from "@/chat/store";
import { ancestry, type Message, pathOf, type Thread } from "@/chat/tree";
import { CopyButton } from "@/components/chat/copy-button";
import { DialogClose, DialogDescription, DialogTitle } from "@/components/ui/dialog";
import { Sheet, SheetContent } from "@/components/ui/sheet";
import { ToggleGroup, ToggleGroupItem } from "@/components/ui/toggle-group";
import { useWords } from "@/i18n";
import { markPrompt } from "@/instrument/prompt-marks";
import { type PromptTarget, useUi } from "@/lib/ui-store";
import { cn } from "@/lib/utils";

/** What the model reads for an answer: every token of it, and what was left out. */
export default function PromptSheet() {
  const t = useWords();
  const open = useUi((state) => state.panel === "prompt");
  const target = useUi((state) => state.prompt);
  return (
    <Sheet open={open} onOpenChange={(next) => !next && useUi.getState().close()}>
      <SheetContent className="max-w-2xl">
        <div className="flex items-start justify-between gap-3 p-5 pb-3">
          <div>
            <DialogTitle>{t.prompt}</DialogTitle>
            <DialogDescription>{t.promptNote}</DialogDescription>
          </div>
          <DialogClose />
        </div>
        {target && <PromptOf target={target} open={open} />}
      </SheetContent>
    </Sheet>
  );
}

function PromptOf({ target, open }: { target: PromptTarget; open: boolean }) {
  const t = useWords();
  const thread = getThread(target.conversation);
  const messages = messagesBefore(thread, target.answer);
  const question = messages.at(-1);
  const answer = target.answer ? thread.byId[target.answer] : undefined;
  const { data, error } = useQuery({
    queryKey: ["prompt", target.conversation, target.answer, question?.id],
    enabled: open && question !== undefined,
    staleTime: 0,
    gcTime: 0,
    retry: false,
    queryFn: ({ signal }) => {
      const ground = answer ? sameGround(answer) : {};
      const body = requestFor(target.conversation, question as Message, ground);
      const init = { method: "POST", body: JSON.stringify(body), signal };
      return requestJson<RenderedPrompt>("/v1/chat/prompt", init);
    },
  });
  if (!question) return <Note>{t.promptEmpty}</Note>;
  if (error) return <Note alert>{`${t.promptFailed} ${sentenceOf(error)}`}</Note>;
  if (!data) return <Waiting />;
  const system = systemAt(thread, question.id);
  return <Prompt prompt={data} messages={messages} system={system} />;
}

/** The messages that lead to an answer, or to the newest one. */
function messagesBefore(thread: Thread, answer: string | undefined): Message[] {
  const last = answer ?? pathOf(thread).findLast((id) => thread.byId[id]?.role === "assistant");
  return ancestry(thread, (last && thread.byId[last]?.parentId) || null);
}

function Prompt({
  prompt,
  messages,
  system,
}: {
  prompt: RenderedPrompt;
  messages: Message[];
  system: string;
}) {
  const t = useWords();
  const [view, setView] = useState("tokens");
  const { prompt_tokens: used, context_length: window, messages_dropped: dropped } = prompt;
  const contents = [system, ...messages.map((message) => message.content)];
  return (
    <>
      <div className="flex flex-wrap items-center gap-x-4 gap-y-3 border-b px-5 pb-4">
        <div className="min-w-48 flex-1">
          <p className="font-medium text-sm tabular-nums">
            {t.promptTokens(used, window)}
            <span className="font-normal text-muted-foreground">
              {" · "}
              {t.promptKept(prompt.messages_kept)}
            </span>
          </p>
          <meter
            aria-label={t.promptTokens(used, window)}
            className="token-meter mt-2 block w-full"
            min={0}
            max={window}
            value={used}
          />
        </div>
        <ToggleGroup
          type="single"
          aria-label={t.shownAs}
          className="w-40"
          value={view}
          onValueChange={(next) => next && setView(next)}
        >
          <ToggleGroupItem value="tokens">{t.viewTokens}</ToggleGroupItem>
          <ToggleGroupItem value="text">{t.viewText}</ToggleGroupItem>
        </ToggleGroup>
        <CopyButton text={prompt.text} label={t.copy} />
      </div>
      <section
        aria-label={t.prompt}
        className="scroll-quiet grow overflow-y-auto px-5 py-4 -outline-offset-2"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a long prompt is scrolled by keyboard too
        tabIndex={0}
      >
        {dropped > 0 && <Dropped messages={messages.slice(0, dropped)} count={dropped} />}
        {view === "text" ? (
          <pre className="whitespace-pre-wrap break-words font-mono text-[0.8125rem] leading-6">
            {prompt.text}
          </pre>
        ) : (
          <Tokens prompt={prompt} contents={contents} />
        )}
      </section>
      {view === "tokens" && (
        <p className="flex items-center gap-2 border-t px-5 py-3 text-muted-foreground text-xs">
          <span aria-hidden="true" className="prompt-token inline-block size-3.5" data-added />
          {t.promptMarks}
        </p>
      )}
    </>
  );
}

function Tokens({ prompt, contents }: { prompt: RenderedPrompt; contents: string[] }) {
  return (
    <p className="whitespace-pre-wrap break-words font-mono text-[0.8125rem] leading-7">
      {markPrompt(prompt.tokens, contents).map(({ id, text, added, special }, i) => (
        <span
          // biome-ignore lint/suspicious/noArrayIndexKey: a prompt does not change
          key={i}
          className="prompt-token"
          title={String(id)}
          data-added={added || undefined}
          data-special={special || undefined}
        >
          {text.replaceAll("\n", "⏎\n")}
        </span>
      ))}
    </p>
  );
}

function Dropped({ messages, count }: { messages: Message[]; count: number }) {
  const t = useWords();
  return (
    <details className="mb-4 rounded-xl border border-dashed px-4 py-2.5 text-sm">
      <summary className="cursor-pointer text-muted-foreground">{t.promptDropped(count)}</summary>
      <ul className="mt-2 flex flex-col gap-1.5">
        {messages.map((message) => (
          <li key={message.id} className="line-clamp-2 text-muted-foreground text-xs">
            <span className="font-medium">{message.role === "user" ? t.you : t.model}: </span>
            {message.content}
          </li>
        ))}
      </ul>
    </details>
  );
}

function Note({ children, alert = false }: { children: string; alert?: boolean }) {
  return (
    <p
      role={alert ? "alert" : undefined}
      className={cn("px-5 py-4 text-sm", alert ? "text-destructive" : "text-muted-foreground")}
    >
      {children}
    </p>
  );
}

function Waiting() {
  return (
    <div aria-hidden="true" className="flex flex-col gap-3 px-5 py-4">
      <div className="h-4 w-11/12 animate-pulse rounded bg-foreground/7" />
      <div className="h-4 w-4/5 animate-pulse rounded bg-foreground/7" />
      <div className="h-4 w-3/5 animate-pulse rounded bg-foreground/7" />
    </div>
  );
}
