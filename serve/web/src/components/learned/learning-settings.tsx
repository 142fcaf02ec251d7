import { Field, Section } from "@/components/settings/field";
import { Button } from "@/components/ui/button";
import { Switch } from "@/components/ui/switch";
import { useWords } from "@/i18n";
import { setConsent, useConsent } from "@/learned/consent";
import { useLearnedWords } from "@/learned/words";
import { useUi } from "@/lib/ui-store";

/** Whether training may use what the reader says, and the way to what it has used. */
export function LearningSettings() {
  const t = useWords();
  return (
    <Section title={t.learned}>
      <ConsentSwitch />
      <Button
        variant="secondary"
        size="sm"
        className="self-start"
        onClick={() => useUi.getState().open("learned")}
      >
        {t.learned}
      </Button>
    </Section>
  );
}

function ConsentSwitch() {
  const t = useLearnedWords();
  const { data } = useConsent();
  if (!data) return null;
  const { policy, given } = data;
  const hint = policy === "ask" ? (given ? t.on : t.off) : policy === "given" ? t.always : t.never;
  return (
    <Field
      id="consent-switch"
      label={t.switch}
      hint={hint}
      value={
        <Switch
          id="consent-switch"
          checked={given}
          disabled={policy !== "ask"}
          onCheckedChange={(next) => void setConsent(next)}
        />
      }
    />
  );
}
