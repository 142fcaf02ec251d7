import { Check, Copy } from "lucide-react";
import { Button } from "@/components/ui/button";
import { Tooltip } from "@/components/ui/tooltip";
import { useCopy } from "@/hooks/use-copy";
import { useWords } from "@/i18n";

export function CopyButton({ text, label }: { text: string; label: string }) {
  const t = useWords();
  const { copied, copy } = useCopy();
  return (
    <Tooltip content={copied ? t.copied : label}>
      <Button variant="ghost" size="icon-sm" aria-label={label} onClick={() => copy(text)}>
        {copied ? <Check className="text-primary" /> : <Copy />}
      </Button>
    </Tooltip>
  );
}
