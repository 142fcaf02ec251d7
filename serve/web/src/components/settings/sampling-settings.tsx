import { Button } from "@/components/ui/button";
import { Input } from "@/components/ui/input";
import { Slider } from "@/components/ui/slider";
import { ToggleGroup, ToggleGroupItem } from "@/components/ui/toggle-group";
import { useWords } from "@/i18n";
import { defaultSampling, type Sampling, samplingPresets, useSettings } from "@/settings/store";
import { useContextLength } from "../shell/model-picker";
import { CopyRequest } from "./copy-request";
import { Field, Section } from "./field";

type Preset = keyof typeof samplingPresets;

function presetOf(sampling: Sampling): Preset | "" {
  const names = Object.keys(samplingPresets) as Preset[];
  return (
    names.find((name) => {
      const preset = samplingPresets[name];
      return (
        preset.temperature === sampling.temperature &&
        preset.top_p === sampling.top_p &&
        preset.top_k === sampling.top_k
      );
    }) ?? ""
  );
}

export function SamplingSettings() {
  const t = useWords();
  const sampling = useSettings((state) => state.sampling);
  const set = useSettings((state) => state.set);
  const context = useContextLength() ?? 1024;
  const change = (part: Partial<Sampling>) => set({ sampling: { ...sampling, ...part } });

  const slider = (
    name: "temperature" | "top_p" | "top_k" | "max_tokens",
    label: string,
    hint: string,
    [min, max, step]: [number, number, number],
  ) => (
    <Field label={label} hint={hint} value={sampling[name]}>
      <Slider
        aria-label={label}
        min={min}
        max={max}
        step={step}
        value={[sampling[name]]}
        onValueChange={([value]) => change({ [name]: value })}
      />
    </Field>
  );

  return (
    <Section title={t.sampling}>
      <ToggleGroup
        type="single"
        aria-label={t.preset}
        value={presetOf(sampling)}
        onValueChange={(name) => name && change(samplingPresets[name as Preset])}
      >
        <ToggleGroupItem value="precise">{t.presetPrecise}</ToggleGroupItem>
        <ToggleGroupItem value="balanced">{t.presetBalanced}</ToggleGroupItem>
        <ToggleGroupItem value="creative">{t.presetCreative}</ToggleGroupItem>
      </ToggleGroup>
      {slider("temperature", t.temperature, t.temperatureHint, [0, 2, 0.05])}
      {slider("top_p", t.topP, t.topPHint, [0.05, 1, 0.01])}
      {slider("top_k", t.topK, t.topKHint, [0, 200, 1])}
      {slider("max_tokens", t.maxTokens, t.maxTokensHint, [16, context, 8])}
      <Field id="seed" label={t.seed} hint={t.seedHint}>
        <Input
          id="seed"
          inputMode="numeric"
          value={sampling.seed ?? ""}
          onChange={(event) => {
            const digits = event.target.value.replace(/\D/g, "").slice(0, 9);
            change({ seed: digits === "" ? null : Number(digits) });
          }}
        />
      </Field>
      <CopyRequest />
      <Button
        variant="secondary"
        size="sm"
        className="self-start"
        onClick={() => set({ sampling: defaultSampling })}
      >
        {t.reset}
      </Button>
    </Section>
  );
}
