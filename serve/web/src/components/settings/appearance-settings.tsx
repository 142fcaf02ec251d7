import { useState } from "react";
import { getApiKey } from "@/api/key";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { useUi } from "@/lib/ui-store";
import { type Language, type Theme, useSettings } from "@/settings/store";
import { Choice, Field, Section } from "./field";

export function AppearanceSettings() {
  const t = useWords();
  const { theme, language, set } = useSettings();
  const [hasKey] = useState(() => getApiKey() !== null);
  return (
    <Section title={t.appearance}>
      <Choice<Theme>
        label={t.theme}
        value={theme}
        options={[
          ["system", t.themeSystem],
          ["light", t.themeLight],
          ["dark", t.themeDark],
        ]}
        onChange={(next) => set({ theme: next })}
      />
      <Choice<Language>
        label={t.language}
        value={language}
        options={[
          ["system", t.languageSystem],
          ["en", "English"],
          ["de", "Deutsch"],
        ]}
        onChange={(next) => set({ language: next })}
      />
      <Field label={t.apiKey} hint={t.apiKeyHint} value={hasKey ? "••••" : undefined}>
        <Button
          variant="secondary"
          size="sm"
          className="self-start"
          onClick={() => useUi.getState().open("key")}
        >
          {t.edit}
        </Button>
      </Field>
    </Section>
  );
}
