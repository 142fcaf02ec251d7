import { Button } from "@/components/ui/button";
import { Input } from "@/components/ui/input";
import { Slider } from "@/components/ui/slider";
import { Textarea } from "@/components/ui/textarea";
import { ToggleGroup, ToggleGroupItem } from "@/components/ui/toggle-group";
import { useLanguage, useWords } from "@/i18n";
import { type Sampling, samplingPresets, useSettings } from "@/settings/store";
import { useContextLength, useSampling, useServerSampling } from "../shell/model-picker";
import { CopyRequest } from "./copy-request";
import { Field, Section } from "./field";
import { FormatSettings } from "./format-settings";
import { linesOfStops, stopsOfLines } from "./stops";

type Preset = keyof typeof samplingPresets | "server";
type Slid = "temperature" | "top_p" | "top_k" | "min_p" | "repetition_penalty" | "max_tokens";

function presetOf(changed: Partial<Sampling>): Preset | "" {
  const { temperature, top_p, top_k } = changed;
  if (temperature === undefined && top_p === undefined && top_k === undefined) return "server";
  const names = Object.keys(samplingPresets) as (keyof typeof samplingPresets)[];
  return (
    names.find((name) => {
      const preset = samplingPresets[name];
      return preset.temperature === temperature && preset.top_p === top_p && preset.top_k === top_k;
    }) ?? ""
  );
}

/** How answers are drawn: the server's own settings, but for what the reader changes. */
export function SamplingSettings() {
  const t = useWords();
  const language = useLanguage();
  const changed = useSettings((state) => state.sampling);
  const set = useSettings((state) => state.set);
  const sampling = useSampling();
  const server = useServerSampling();
  const context = useContextLength() ?? 1024;
  const change = (part: Partial<Sampling>) => {
    const next = Object.entries({ ...changed, ...part });
    set({ sampling: Object.fromEntries(next.filter(([, value]) => value !== undefined)) });
  };
  const choose = (preset: Preset) =>
    change(
      preset === "server"
        ? { temperature: undefined, top_p: undefined, top_k: undefined }
        : samplingPresets[preset],
    );

  const slider = (
    name: Slid,
    label: string,
    hint: string,
    [min, max, step]: [number, number, number],
  ) => (
    <Field
      label={label}
      hint={
        changed[name] === undefined
          ? hint
          : `${hint} ${t.serverHas(server[name].toLocaleString(language))}`
      }
      value={sampling[name].toLocaleString(language)}
    >
      <Slider
        aria-label={label}
        min={min}
        max={max}
        step={step}
        value={sampling[name]}
        onValueChange={(value) => change({ [name]: value })}
      />
    </Field>
  );

  return (
    <Section title={t.sampling}>
      <ToggleGroup
        type="single"
        aria-label={t.preset}
        value={presetOf(changed)}
        onValueChange={(name) => name && choose(name as Preset)}
      >
        <ToggleGroupItem value="server">{t.presetServer}</ToggleGroupItem>
        <ToggleGroupItem value="precise">{t.presetPrecise}</ToggleGroupItem>
        <ToggleGroupItem value="creative">{t.presetCreative}</ToggleGroupItem>
      </ToggleGroup>
      {slider("temperature", t.temperature, t.temperatureHint, [0, 2, 0.05])}
      {slider("top_p", t.topP, t.topPHint, [0.05, 1, 0.01])}
      {slider("top_k", t.topK, t.topKHint, [0, 200, 1])}
      {slider("min_p", t.minP, t.minPHint, [0, 1, 0.01])}
      {slider("repetition_penalty", t.repetition, t.repetitionHint, [0.8, 2, 0.01])}
      {slider("max_tokens", t.maxTokens, t.maxTokensHint, [16, context, 8])}
      <Field id="seed" label={t.seed} hint={t.seedHint}>
        <Input
          id="seed"
          inputMode="numeric"
          value={sampling.seed ?? ""}
          onChange={(event) => {
            const digits = event.target.value.replace(/\D/g, "").slice(0, 9);
            change({ seed: digits === "" ? undefined : Number(digits) });
          }}
        />
      </Field>
      <Field id="stop" label={t.stopTexts} hint={t.stopTextsHint}>
        <Textarea
          id="stop"
          className="min-h-9"
          rows={1}
          // The field is the reader's while they type: a line that is begun is no text to stop at yet.
          defaultValue={linesOfStops(sampling.stop)}
          onChange={(event) => {
            const stop = stopsOfLines(event.target.value);
            change({ stop: stop.length > 0 ? stop : undefined });
          }}
        />
      </Field>
      <FormatSettings />
      <CopyRequest />
      <Button
        variant="secondary"
        size="sm"
        className="self-start"
        onClick={() => set({ sampling: {}, format: { type: "text", schema: "" } })}
      >
        {t.reset}
      </Button>
    </Section>
  );
}
