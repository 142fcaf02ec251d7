import { parseSchema } from "@/chat/request";
import { Textarea } from "@/components/ui/textarea";
import { useWords } from "@/i18n";
import { type AnswerFormat, useSettings } from "@/settings/store";
import { Choice, Field } from "./field";

/** Whether answers are free text, or JSON. */
export function FormatSettings() {
  const t = useWords();
  const { format, set } = useSettings();
  const change = (part: Partial<AnswerFormat>) => set({ format: { ...format, ...part } });
  return (
    <>
      <Choice<AnswerFormat["type"]>
        label={t.format}
        hint={t.formatHint}
        value={format.type}
        options={[
          ["text", t.formatText],
          ["json_object", t.formatJson],
          ["json_schema", t.formatSchema],
        ]}
        onChange={(type) => change({ type })}
      />
      {format.type === "json_schema" && (
        <Field
          id="schema"
          label={t.schema}
          hint={parseSchema(format.schema) ? undefined : t.schemaWrong}
        >
          <Textarea
            id="schema"
            className="font-mono text-xs"
            spellCheck={false}
            value={format.schema}
            onChange={(event) => change({ schema: event.target.value })}
          />
        </Field>
      )}
    </>
  );
}
