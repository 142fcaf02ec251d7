import { useState } from "react";
import { useHealth } from "@/api/queries";
import { systemOf } from "@/chat/choices";
import { Switch } from "@/components/ui/switch";
import { Textarea } from "@/components/ui/textarea";
import { useWords } from "@/i18n";
import { useRoute } from "@/lib/router";
import { type SearchMode, setOwn, useSettings } from "@/settings/store";
import { Choice, Field, Section } from "./field";

/** What stands before a conversation, and what happens around an answer. */
export function ConversationSettings() {
  const t = useWords();
  const { system, search, tokenView, set } = useSettings();
  const { conversation } = useRoute();
  const searchable = Boolean(useHealth().data?.search?.enabled);
  const hints = { off: t.searchOffHint, auto: t.searchAutoHint, on: t.searchOnHint };
  return (
    <Section title={t.conversations}>
      {conversation && <OwnSystem key={conversation} conversation={conversation} />}
      <Field
        id="system-prompt"
        label={conversation ? t.systemPromptNew : t.systemPrompt}
        hint={t.systemPromptHint}
      >
        <Textarea
          id="system-prompt"
          value={system}
          onChange={(event) => set({ system: event.target.value })}
        />
      </Field>
      <Choice<SearchMode>
        label={t.searchSetting}
        hint={searchable ? hints[search] : t.searchUnavailable}
        value={searchable ? search : "off"}
        disabled={!searchable}
        options={[
          ["off", t.searchOff],
          ["auto", t.searchAuto],
          ["on", t.searchOn],
        ]}
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

/** The system prompt of the conversation that is open; it holds from the next question on. */
function OwnSystem({ conversation }: { conversation: string }) {
  const t = useWords();
  const chosen = useSettings((state) => state.own[conversation]?.system);
  const [shown] = useState(() => systemOf(conversation));
  return (
    <Field id="own-system-prompt" label={t.systemPromptOwn} hint={t.systemPromptOwnHint}>
      <Textarea
        id="own-system-prompt"
        value={chosen ?? shown}
        onChange={(event) => setOwn(conversation, { system: event.target.value })}
      />
    </Field>
  );
}

function SwitchRow({
  id,
  label,
  hint,
  checked,
  onChange,
}: {
  id: string;
  label: string;
  hint?: string;
  checked: boolean;
  onChange: (next: boolean) => void;
}) {
  return (
    <Field
      id={id}
      label={label}
      hint={hint}
      value={<Switch id={id} checked={checked} onCheckedChange={onChange} />}
    />
  );
}
