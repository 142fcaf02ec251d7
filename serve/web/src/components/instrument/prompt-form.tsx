import { Play, Square } from "lucide-react";
import { Button } from "@/components/ui/button";
import { StartOrStop } from "@/components/ui/start-or-stop";
import { Textarea } from "@/components/ui/textarea";
import { useWords } from "@/i18n";

interface PromptFormProps {
  value: string;
  running: boolean;
  disabled?: boolean;
  onChange: (value: string) => void;
  onRun: () => void;
  onStop: () => void;
}

/** The field for the prompt that both sides answer. Enter runs it, Shift+Enter makes a new line. */
export function PromptForm({ value, running, disabled, onChange, onRun, onStop }: PromptFormProps) {
  const t = useWords();
  return (
    <form
      className="glass flex items-end gap-2 rounded-3xl p-2.5"
      onSubmit={(event) => {
        event.preventDefault();
        onRun();
      }}
    >
      <Textarea
        aria-label={t.comparePrompt}
        placeholder={t.comparePrompt}
        className="min-h-9 border-0 bg-transparent text-base"
        dir="auto"
        value={value}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
          event.preventDefault();
          onRun();
        }}
      />
      <StartOrStop
        running={running}
        start={
          <Button type="submit" className="rounded-full" disabled={disabled || value.trim() === ""}>
            <Play />
            <span className="max-xs:sr-only">{t.run}</span>
          </Button>
        }
        stop={
          <Button className="rounded-full" onClick={onStop}>
            <Square className="size-3.5 fill-current" />
            {t.stop}
          </Button>
        }
      />
    </form>
  );
}
