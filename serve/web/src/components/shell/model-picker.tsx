import { ChevronDown, ExternalLink } from "lucide-react";
import { useHealth, useModels } from "@/api/queries";
import type { Model } from "@/api/types";
import { findModel, lastModel, modelOf, serverSampling } from "@/chat/choices";
import { useChat } from "@/chat/store";
import { Button } from "@/components/ui/button";
import {
  DropdownMenu,
  DropdownMenuItem,
  DropdownMenuLabel,
  DropdownMenuRadioGroup,
  DropdownMenuRadioItem,
  DropdownMenuSeparator,
} from "@/components/ui/dropdown-menu";
import { useLanguage, useWords } from "@/i18n";
import { useRoute } from "@/lib/router";
import { fallbackSampling, type Sampling, setOwn, useSettings } from "@/settings/store";
import { cardLines } from "./model-card";

/**
 * The checkpoint that answers: the one chosen for the conversation, or that answered last in it; else the
 * reader's choice while it is served, else the server's first.
 */
export function useShownModel(): string | null {
  const { conversation } = useRoute();
  const { data: models } = useModels();
  const { data: health } = useHealth();
  // What `modelOf` looks at.
  useSettings((state) => `${state.model} ${conversation && state.own[conversation]?.model}`);
  useChat((state) => {
    const thread = conversation ? state.threads[conversation] : undefined;
    return thread ? lastModel(thread, models) : null;
  });
  return modelOf(conversation) ?? health?.model?.id ?? models?.[0]?.id ?? null;
}

/** The server's sampling with what the reader changed. */
export function useSampling(): Sampling {
  const changed = useSettings((state) => state.sampling);
  return { ...useServerSampling(), ...changed };
}

export function useServerSampling(): Sampling {
  const shown = useShownModel();
  const { data: models } = useModels();
  return { ...fallbackSampling, ...serverSampling(findModel(models, shown)) };
}

/** How many tokens the window of that checkpoint holds, where that is known. */
export function useContextLength(): number | undefined {
  const shown = useShownModel();
  const { data: models } = useModels();
  const { data: health } = useHealth();
  const card = models?.find((model) => model.id === shown)?.resonance;
  return card?.context_length ?? health?.model?.context_length;
}

export function ModelPicker() {
  const t = useWords();
  const { data: models } = useModels();
  const shown = useShownModel();
  const set = useSettings((state) => state.set);
  const { conversation } = useRoute();
  const tracked = models?.filter((model) => model.resonance?.run?.url) ?? [];
  return (
    <DropdownMenu
      trigger={
        <Button
          variant="ghost"
          aria-label={`${t.model}: ${shown ?? "…"}`}
          className="min-w-0 shrink px-2.5 text-[0.95rem] text-foreground"
        >
          <span className="truncate">{shown ?? t.chooseModel}</span>
          <ChevronDown className="text-muted-foreground" />
        </Button>
      }
      align="start"
      className="w-80 max-w-[calc(100vw-1rem)]"
    >
      <DropdownMenuLabel>{t.chooseModel}</DropdownMenuLabel>
      <DropdownMenuRadioGroup
        value={shown ?? ""}
        onValueChange={(model) => (conversation ? setOwn(conversation, { model }) : set({ model }))}
      >
        {models?.map((model) => (
          <DropdownMenuRadioItem key={model.id} value={model.id}>
            <ModelItem model={model} />
          </DropdownMenuRadioItem>
        ))}
      </DropdownMenuRadioGroup>
      {tracked.length > 0 && <DropdownMenuSeparator />}
      {tracked.map((model) => (
        <DropdownMenuItem key={model.id} asChild>
          <a href={model.resonance?.run?.url ?? ""} target="_blank" rel="noopener noreferrer">
            <ExternalLink />
            {t.openRun(model.id)}
          </a>
        </DropdownMenuItem>
      ))}
    </DropdownMenu>
  );
}

function ModelItem({ model }: { model: Model }) {
  const t = useWords();
  const language = useLanguage();
  return (
    <div className="min-w-0">
      <p className="truncate font-medium">{model.id}</p>
      <dl className="mt-0.5 flex flex-wrap gap-x-3 gap-y-0.5 text-muted-foreground text-xs">
        {cardLines(model.resonance, t, language).map(([name, value]) => (
          <div key={name} className="flex gap-1">
            <dt>{name}</dt>
            <dd className="font-medium text-foreground/80">{value}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
