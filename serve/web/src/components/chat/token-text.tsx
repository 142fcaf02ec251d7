import { GitBranch } from "lucide-react";
import { type KeyboardEvent, memo, useState } from "react";
import type { TokenAlternative, TokenLogprob } from "@/api/types";
import { Button } from "@/components/ui/button";
import { Popover, PopoverAnchor, PopoverContent } from "@/components/ui/popover";
import { useLanguage, useWords } from "@/i18n";
import { cn } from "@/lib/utils";

/** An answer token by token, each coloured by how sure the model was; one shows what else was likely. */
interface TokenTextProps {
  tokens: TokenLogprob[];
  /** Stands in a line of other text, without a legend. */
  inline?: boolean;
  /** Offers to go on from token `index` with another one in its place. */
  onFork?: (index: number, alternative: TokenAlternative) => void;
}

export function TokenText({ tokens, inline = false, onFork }: TokenTextProps) {
  const t = useWords();
  const [open, setOpen] = useState<number | null>(null);
  const [anchor, setAnchor] = useState<HTMLElement | null>(null);
  const shown = open === null ? undefined : tokens[open];

  /** One stop for the Tab key; the arrows go from token to token. */
  function onKeyDown(event: KeyboardEvent<HTMLElement>) {
    const target = event.target as HTMLElement;
    const next = {
      ArrowRight: target.nextElementSibling,
      ArrowLeft: target.previousElementSibling,
    }[event.key];
    if (next instanceof HTMLElement) next.focus();
    else if (event.key === "Enter" || event.key === " ") target.click();
    else return;
    event.preventDefault();
  }

  return (
    <>
      <Popover open={shown !== undefined} onOpenChange={(next) => !next && setOpen(null)}>
        <PopoverAnchor virtualRef={{ current: anchor }} />
        <div
          role="toolbar"
          aria-label={t.tokenLegend}
          className={cn("whitespace-pre-wrap break-words leading-8", inline && "inline")}
          onKeyDown={onKeyDown}
          onClick={(event) => {
            const token = (event.target as HTMLElement).closest<HTMLElement>("[data-token]");
            if (!token) return;
            setAnchor(token);
            setOpen(Number(token.dataset.token));
          }}
        >
          {tokens.map((token, i) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: tokens are only ever added at the end
            <Token key={i} index={i} token={token} open={i === open} />
          ))}
        </div>
        {shown && (
          <Alternatives
            token={shown}
            onFork={
              onFork &&
              ((alternative) => {
                setOpen(null);
                onFork(open as number, alternative);
              })
            }
          />
        )}
      </Popover>
      {!inline && (
        <p className="mt-3 flex items-center gap-2 text-muted-foreground text-xs">
          {t.tokenLegend}
          <span aria-hidden="true">0%</span>
          <span className="token-scale h-2 w-28 rounded-full" />
          <span aria-hidden="true">100%</span>
        </p>
      )}
    </>
  );
}

interface TokenProps {
  token: TokenLogprob;
  index: number;
  open: boolean;
}

const Token = memo(function Token({ token, index, open }: TokenProps) {
  const percent = usePercent();
  const probability = Math.exp(token.logprob);
  if (token.given) return <span>{token.token}</span>;
  return (
    // biome-ignore lint/a11y/useSemanticElements: a real button does not break across lines
    <span
      role="button"
      tabIndex={index === 0 ? 0 : -1}
      aria-expanded={open}
      className="token"
      data-token={index}
      data-level={Math.min(9, Math.floor(probability * 10))}
      aria-label={`${visible(token.token)} ${percent(probability)}`}
      title={percent(probability)}
    >
      {token.token.replaceAll("\n", "⏎\n")}
    </span>
  );
});

function Alternatives({
  token,
  onFork,
}: {
  token: TokenLogprob;
  onFork?: (alternative: TokenAlternative) => void;
}) {
  const t = useWords();
  const percent = usePercent();
  const known = token.top_logprobs.some((other) => other.token === token.token);
  const rows = known ? token.top_logprobs : [token, ...token.top_logprobs];
  return (
    <PopoverContent className="w-72 p-3" aria-label={t.alternatives}>
      <p className="mb-2 text-muted-foreground text-xs">{t.alternatives}</p>
      <ul className="flex flex-col gap-1.5 text-xs">
        {rows.map((other) => (
          <li key={other.token} className="flex items-center gap-2">
            <code
              className="w-28 shrink-0 truncate rounded bg-muted px-1.5 py-0.5 data-chosen:bg-primary/20"
              data-chosen={other.token === token.token || undefined}
            >
              {visible(other.token)}
            </code>
            <meter
              className="token-meter"
              aria-label={t.probability}
              min={0}
              max={1}
              value={Math.exp(other.logprob)}
            />
            <span className="w-12 shrink-0 text-right tabular-nums">
              {percent(Math.exp(other.logprob))}
            </span>
            {onFork && (
              <Button
                variant="ghost"
                size="icon-sm"
                className="size-6"
                aria-label={t.forkHere(visible(other.token))}
                onClick={() => onFork(other)}
              >
                <GitBranch />
              </Button>
            )}
          </li>
        ))}
      </ul>
    </PopoverContent>
  );
}

/** Shows the white space of a token. */
function visible(token: string): string {
  return token.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
}

function usePercent(): (value: number) => string {
  const language = useLanguage();
  return (value) =>
    new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(value);
}
