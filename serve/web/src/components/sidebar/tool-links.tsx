import { Columns2, FileText, TextCursorInput } from "lucide-react";
import { Button } from "@/components/ui/button";
import { useWords } from "@/i18n";
import { navigate, useRoute } from "@/lib/router";
import { openDocuments } from "@/lib/ui-store";
import { cn } from "@/lib/utils";

/** The ways to look into a model besides talking with it. */
export function ToolLinks({ onNavigate }: { onNavigate?: () => void }) {
  const t = useWords();
  const { mode } = useRoute();
  const button = "justify-start px-2.5";
  const tools = [
    { mode: "compare", label: t.compare, Icon: Columns2 },
    { mode: "complete", label: t.complete, Icon: TextCursorInput },
  ];
  return (
    <nav aria-label={t.tools} className="flex flex-col border-t pt-2">
      <Button
        variant="ghost"
        className={button}
        onClick={() => {
          onNavigate?.();
          openDocuments();
        }}
      >
        <FileText />
        {t.documents}
      </Button>
      {tools.map(({ mode: name, label, Icon }) => (
        <Button
          key={name}
          asChild
          variant="ghost"
          className={cn(button, mode === name && "bg-foreground/9 text-foreground")}
        >
          <a
            href={`/?mode=${name}`}
            aria-current={mode === name ? "page" : undefined}
            onClick={(event) => {
              if (event.metaKey || event.ctrlKey || event.shiftKey) return;
              event.preventDefault();
              navigate(`/?mode=${name}`);
              onNavigate?.();
            }}
          >
            <Icon />
            {label}
          </a>
        </Button>
      ))}
    </nav>
  );
}
