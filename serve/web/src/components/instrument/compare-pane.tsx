import { useId } from "react";
import { useModels } from "@/api/queries";
import { speedOf } from "@/chat/receive";
import { useShownModel } from "@/components/shell/model-picker";
import { Input } from "@/components/ui/input";
import { Label } from "@/components/ui/label";
import { useLanguage, useWords } from "@/i18n";
import type { Side } from "@/instrument/contenders";
import type { LooseAnswer } from "@/instrument/use-answer";
import type { Stretch } from "@/instrument/words-diff";
import { formatNumber } from "@/lib/format";
import { PaneAnswer } from "./pane-answer";

interface ComparePaneProps {
  name: string;
  side: Side;
  answer: LooseAnswer;
  marked?: Stretch[];
  onChange: (side: Side) => void;
}

export function ComparePane({ name, side, answer, marked, onChange }: ComparePaneProps) {
  const t = useWords();
  const language = useLanguage();
  const id = useId();
  const { data: models } = useModels();
  const shown = useShownModel();
  const speed = speedOf(answer)?.tokensPerSecond;
  return (
    <section aria-label={name} className="glass flex min-h-56 min-w-0 flex-col rounded-2xl">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2 border-b px-4 py-3">
        <h2 className="font-semibold text-sm">{name}</h2>
        <select
          aria-label={t.model}
          className="h-8 min-w-0 max-w-48 rounded-lg border border-input bg-background/60 px-2 text-sm"
          value={side.model ?? shown ?? ""}
          onChange={(event) => onChange({ ...side, model: event.target.value })}
        >
          {models?.map((model) => (
            <option key={model.id}>{model.id}</option>
          ))}
        </select>
        <div className="flex items-center gap-2">
          <Label htmlFor={id} className="font-normal text-muted-foreground">
            {t.temperature}
          </Label>
          <Input
            id={id}
            type="number"
            min={0}
            max={2}
            step={0.1}
            className="h-8 w-18 px-2"
            // The field is the reader's while they type; what it holds meanwhile may be no number.
            defaultValue={side.temperature}
            onChange={(event) => {
              const temperature = event.target.valueAsNumber;
              if (temperature >= 0 && temperature <= 2) onChange({ ...side, temperature });
            }}
            onBlur={(event) => {
              event.target.value = String(side.temperature);
            }}
          />
        </div>
      </div>
      <div className="grow px-4 py-3" aria-busy={answer.running}>
        {marked ? (
          <p className="whitespace-pre-wrap break-words leading-relaxed">
            {marked.map(({ text, only }, i) =>
              only ? (
                // biome-ignore lint/suspicious/noArrayIndexKey: the texts are final
                <mark key={i} className="rounded bg-primary/20 text-foreground">
                  {text}
                </mark>
              ) : (
                text
              ),
            )}
          </p>
        ) : (
          <PaneAnswer answer={answer} />
        )}
      </div>
      {speed && (
        <p className="px-4 pb-3 text-muted-foreground text-xs tabular-nums">
          {t.tokensPerSecond(formatNumber(speed, language))}
        </p>
      )}
    </section>
  );
}
