import { useHealth } from "@/api/queries";
import { Switch } from "@/components/ui/switch";
import { Textarea } from "@/components/ui/textarea";
import { useWords } from "@/i18n";
import { useSettings } from "@/settings/store";
import { Field, Section } from "./field";

/** What stands before a conversation, and what happens around an answer. */
export function ConversationSettings() {
  const t = useWords();
  const { system, search, tokenView, set } = useSettings();
  const searchable = Boolean(useHealth().data?.search?.enabled);
  return (
    <Section title={t.conversations}>
      <Field id="system-prompt" label={t.systemPrompt} hint={t.systemPromptHint}>
        <Textarea
          id="system-prompt"
          value={system}
          onChange={(event) => set({ system: event.target.value })}
        />
      </Field>
      <SwitchRow
        id="search-switch"
        label={t.searchSetting}
        hint={searchable ? undefined : t.searchUnavailable}
        checked={search && searchable}
        disabled={!searchable}
        onChange={(next) => set({ search: next })}
      />
      <SwitchRow
        id="token-switch"
        label={t.tokenView}
        hint={t.tokenViewHint}
        checked={tokenView}
        onChange={(next) => set({ tokenView: next })}
      />
    </Section>
  );
}

function SwitchRow({
  id,
  label,
  hint,
  checked,
  disabled = false,
  onChange,
}: {
  id: string;
  label: string;
  hint?: string;
  checked: boolean;
  disabled?: boolean;
  onChange: (next: boolean) => void;
}) {
  return (
    <Field
      id={id}
      label={label}
      hint={hint}
      value={<Switch id={id} checked={checked} disabled={disabled} onCheckedChange={onChange} />}
    />
  );
}
