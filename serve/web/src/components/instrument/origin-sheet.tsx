import { useQuery } from "@tanstack/react-query";
import { requestJson } from "@/api/client";
import type { components } from "@/api/schema";
import { sentenceOf } from "@/chat/errors";
import { PanelSheet } from "@/components/panel-sheet";
import { useLanguage, useWords } from "@/i18n";
import { type PromptTarget, useUi } from "@/lib/ui-store";

type Explanation = components["schemas"]["Explanation"];

const en = {
  note: "The training examples whose gradients are most like this answer's. The answer may be the same without them.",
  wait: "Comparing …",
  hidden: "Somebody else's judgement",
  of: (compared: number, all: number) => `${compared} of ${all} training examples compared`,
};

const de: typeof en = {
  note: "Die Trainingsbeispiele, deren Gradienten denen dieser Antwort am ähnlichsten sind. Ohne sie kann die Antwort dieselbe sein.",
  wait: "Vergleiche …",
  hidden: "Das Urteil von jemand anderem",
  of: (compared, all) => `${compared} von ${all} Trainingsbeispielen verglichen`,
};

/** The training examples that pulled most towards an answer. */
export default function OriginSheet() {
  const title = useWords().showOrigin;
  const t = useLanguage() === "de" ? de : en;
  const open = useUi((state) => state.panel === "origin");
  const target = useUi((state) => state.prompt);
  return (
    <PanelSheet panel="origin" title={title} note={t.note}>
      {open && target && <Origin target={target} t={t} />}
    </PanelSheet>
  );
}

/** Asks while it is shown: who closes the sheet does not wait for the answer. */
function Origin({ target, t }: { target: PromptTarget; t: typeof en }) {
  const { data, error } = useQuery({
    queryKey: ["origin", target.conversation, target.answer],
    retry: false,
    queryFn: ({ signal }) => {
      const body = JSON.stringify({ conversation: target.conversation, message: target.answer });
      return requestJson<Explanation>("/v1/explain", { method: "POST", body, signal });
    },
  });
  if (error) return <p role="alert">{sentenceOf(error)}</p>;
  if (!data) return <p role="status">{t.wait}</p>;
  return (
    <>
      <ul className="flex flex-col divide-y">
        {data.data.map((one, i) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: the list does not change
          <li key={i} className="flex items-start justify-between gap-3 py-2.5">
            <div className="min-w-0">
              <p dir="auto" className="line-clamp-2 break-words">
                {one.prompt ?? t.hidden}
              </p>
              <p dir="auto" className="line-clamp-2 break-words text-muted-foreground">
                {one.answer}
              </p>
            </div>
            <span className="tabular-nums">{one.score.toFixed(2)}</span>
          </li>
        ))}
      </ul>
      <p className="text-muted-foreground text-xs">
        {t.of(data.examples_compared, data.training_examples)}
      </p>
    </>
  );
}
