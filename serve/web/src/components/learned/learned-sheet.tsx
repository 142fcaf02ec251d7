import { useInfiniteQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { toast } from "sonner";
import { request, requestJson } from "@/api/client";
import { conversationPath, queryClient } from "@/api/queries";
import type { components } from "@/api/schema";
import { sentenceOf } from "@/chat/errors";
import { PanelSheet } from "@/components/panel-sheet";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { useLearnedWords } from "@/learned/words";
import { useUi } from "@/lib/ui-store";

type Schemas = components["schemas"];
type Judgement = Schemas["LearnedJudgement"];

function useLearned(enabled: boolean) {
  return useInfiniteQuery({
    queryKey: ["learned"],
    enabled,
    staleTime: 0,
    initialPageParam: "",
    queryFn: ({ pageParam, signal }) =>
      requestJson<Schemas["Learned"]>(
        `/v1/learned${pageParam && `?after=${encodeURIComponent(pageParam)}`}`,
        { signal },
      ),
    getNextPageParam: (page) => (page.has_more ? page.data.at(-1)?.id : undefined),
  });
}

async function withdraw({ id, conversation }: Judgement): Promise<void> {
  const one = encodeURIComponent(id);
  await request(
    conversation
      ? `${conversationPath(conversation)}/messages/${one}/feedback`
      : `/v1/votes/${one}`,
    { method: "DELETE" },
  );
  // The page looks at its conversation again, as for a reader who comes back.
  if (conversation) window.dispatchEvent(new Event("focus"));
  else void queryClient.invalidateQueries({ queryKey: ["votes"] });
  await queryClient.invalidateQueries({ queryKey: ["learned"] });
}

/** Which of the reader's judgements are in which checkpoint, and what changed in its answers. */
export default function LearnedSheet() {
  const title = useWords().learned;
  const t = useLearnedWords();
  const open = useUi((state) => state.panel === "learned");
  const { data, error, hasNextPage, fetchNextPage } = useLearned(open);
  const first = data?.pages[0];
  const judgements = data?.pages.flatMap((page) => page.data) ?? [];
  return (
    <PanelSheet panel="learned" title={title} note={t.note}>
      {error && <p role="alert">{`${t.failed} ${sentenceOf(error)}`}</p>}
      {first && judgements.length + first.withdrawn.length === 0 && <p>{t.nothing}</p>}
      <Group title={t.models} items={first?.checkpoints ?? []} keyOf={(one) => one.checkpoint}>
        {(one) => <Checkpoint checkpoint={one} />}
      </Group>
      <Group title={t.judgements} items={judgements} keyOf={(one) => one.id}>
        {(one) => <Row judgement={one} />}
      </Group>
      {hasNextPage && (
        <Button variant="secondary" size="sm" onClick={() => void fetchNextPage()}>
          {t.more}
        </Button>
      )}
      <Group title={t.former} items={first?.withdrawn ?? []} keyOf={(one) => one.id}>
        {(one) => <Row judgement={one} />}
      </Group>
    </PanelSheet>
  );
}

function Group<T>({
  title,
  items,
  keyOf,
  children,
}: {
  title: string;
  items: T[];
  keyOf: (item: T) => string;
  children: (item: T) => ReactNode;
}) {
  if (items.length === 0) return null;
  return (
    <section aria-label={title}>
      <h3 className="mb-1 font-medium text-muted-foreground text-xs">{title}</h3>
      <ul className="flex flex-col divide-y">
        {items.map((item) => (
          <li key={keyOf(item)} className="flex flex-col gap-1 py-2.5">
            {children(item)}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Checkpoint({ checkpoint: one }: { checkpoint: Schemas["LearnedCheckpoint"] }) {
  const t = useLearnedWords();
  return (
    <>
      <p className="break-words">
        <b className="font-medium">{one.checkpoint}</b> · {t.state[one.state]} ·{" "}
        {t.from(one.trained_from)}
      </p>
      <p className="text-muted-foreground">{t.of(one.yours, one.judgements)}</p>
      {one.checks.map(({ name, sentence }) => (
        // What the gate found is written in English.
        <p key={name} lang="en" className="text-muted-foreground text-xs">
          {sentence}
        </p>
      ))}
      {one.answers.length > 0 && (
        <details>
          <summary className="cursor-pointer">{t.changed(one.answers.length)}</summary>
          <ul className="flex flex-col gap-3 pt-2">
            {one.answers.map((answer) => (
              <li key={answer.question + answer.expected} dir="auto">
                <p className="font-medium">{answer.question}</p>
                <dl className="text-muted-foreground">
                  <Said name={`${t.before}, ${answer.before_right ? t.right : t.wrong}`}>
                    {answer.before}
                  </Said>
                  <Said name={`${t.after}, ${answer.after_right ? t.right : t.wrong}`}>
                    {answer.after}
                  </Said>
                  <Said name={t.expected}>{answer.expected}</Said>
                </dl>
              </li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}

function Said({ name, children }: { name: string; children: string }) {
  return (
    <div className="flex gap-1.5">
      <dt className="shrink-0">{name}:</dt>
      <dd className="min-w-0 break-words text-foreground">{children}</dd>
    </div>
  );
}

function Row({ judgement: one }: { judgement: Judgement }) {
  const t = useLearnedWords();
  const kept = one.checkpoints.filter(({ use }) => use !== "measured");
  async function onWithdraw() {
    try {
      await withdraw(one);
      const names = kept.map(({ checkpoint }) => checkpoint).join(", ");
      toast.success(`${t.withdrawn} ${names && t.stays(names)}`);
    } catch (reason) {
      toast.error(`${t.failed} ${sentenceOf(reason)}`);
    }
  }
  return (
    <div className="flex items-start justify-between gap-3">
      <div className="min-w-0">
        <p dir="auto" className="line-clamp-2 break-words">
          {one.question}
        </p>
        <p dir="auto" className="line-clamp-2 break-words text-muted-foreground">
          {t.kind[one.kind]}
          {one.answer && `: ${one.answer}`}
        </p>
        <p className="break-words text-muted-foreground text-xs">
          {one.checkpoints.map((each) => `${each.checkpoint}: ${t.use[each.use]}`).join("; ") ||
            t.unused}
        </p>
      </div>
      {!one.withdrawn && (
        <Button
          variant="ghost"
          size="sm"
          aria-label={`${t.withdraw}: ${one.question}`}
          onClick={() => void onWithdraw()}
        >
          {t.withdraw}
        </Button>
      )}
    </div>
  );
}
