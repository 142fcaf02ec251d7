import { Check, Copy } from "lucide-react";
import { getApiKey } from "@/api/key";
import { useHealth } from "@/api/queries";
import { asCurl, asPython } from "@/chat/as-code";
import { systemOf } from "@/chat/choices";
import { requestSettings } from "@/chat/request";
import { sourcesOf } from "@/chat/source-choice";
import { Button } from "@/components/ui/button";
import { useCopy } from "@/hooks/use-copy";
import { useWords } from "@/i18n";
import { useRoute } from "@/lib/router";
import { useSettings } from "@/settings/store";
import { useShownModel } from "../shell/model-picker";
import { Field } from "./field";

/** The current settings as a program that asks the same server. */
export function CopyRequest() {
  const t = useWords();
  const settings = useSettings();
  const model = useShownModel();
  const { conversation } = useRoute();
  const system = conversation ? systemOf(conversation) : settings.system.trim();
  const searchable = Boolean(useHealth().data?.search?.enabled);
  const body = () => ({
    ...requestSettings({
      ...settings,
      sources: sourcesOf(conversation),
      search: searchable ? settings.search : "off",
      model,
    }),
    messages: [
      ...(system ? [{ role: "system" as const, content: system }] : []),
      { role: "user" as const, content: "Hello!" },
    ],
  });
  const origin = window.location.origin;
  const keyed = getApiKey() !== null;
  return (
    <Field label={t.copyAs}>
      <div className="flex gap-2">
        <CopyAs label={t.copyAsCurl} text={() => asCurl(origin, body(), keyed)} />
        <CopyAs label={t.copyAsPython} text={() => asPython(origin, body(), keyed)} />
      </div>
    </Field>
  );
}

function CopyAs({ label, text }: { label: string; text: () => string }) {
  const { copied, copy } = useCopy();
  return (
    <Button variant="secondary" size="sm" onClick={() => copy(text())}>
      {copied ? <Check /> : <Copy />}
      {label}
    </Button>
  );
}
