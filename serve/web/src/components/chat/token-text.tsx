import { memo } from "react";
import type { TokenLogprob } from "@/api/types";
import { Popover, PopoverContent, PopoverTrigger } from "@/components/ui/popover";
import { useLanguage, useWords } from "@/i18n";

/** An answer token by token, each coloured by how sure the model was of it. */
export function TokenText({ tokens }: { tokens: TokenLogprob[] }) {
  const t = useWords();
  return (
    <div className="flex flex-col gap-3">
      <div className="whitespace-pre-wrap break-words leading-8">
        {tokens.map((token, i) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: tokens are only ever added at the end
          <Token key={i} token={token} />
        ))}
      </div>
      <p className="flex items-center gap-2 text-muted-foreground text-xs">
        {t.tokenLegend}
        <span aria-hidden="true">0%</span>
        <span className="token-scale h-2 w-28 rounded-full" />
        <span aria-hidden="true">100%</span>
      </p>
    </div>
  );
}

const Token = memo(function Token({ token }: { token: TokenLogprob }) {
  const t = useWords();
  const percent = usePercent();
  const probability = Math.exp(token.logprob);
  return (
    <Popover>
      <PopoverTrigger
        className="token"
        data-level={Math.min(9, Math.floor(probability * 10))}
        aria-label={`${visible(token.token)} ${percent(probability)}`}
      >
        {token.token}
      </PopoverTrigger>
      <PopoverContent className="w-64 p-3" aria-label={t.alternatives}>
        <p className="mb-2 text-muted-foreground text-xs">{t.alternatives}</p>
        <ul className="flex flex-col gap-1.5 text-xs">
          {token.top_logprobs.map((other) => (
            <li key={other.token} className="flex items-center gap-2">
              <code className="w-24 shrink-0 truncate rounded bg-muted px-1.5 py-0.5">
                {visible(other.token)}
              </code>
              <meter className="token-meter" min={0} max={1} value={Math.exp(other.logprob)} />
              <span className="w-12 shrink-0 text-right tabular-nums">
                {percent(Math.exp(other.logprob))}
              </span>
            </li>
          ))}
        </ul>
      </PopoverContent>
    </Popover>
  );
});

/** Shows the white space of a token. */
function visible(token: string): string {
  return token.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
}

function usePercent(): (value: number) => string {
  const language = useLanguage();
  return (value) =>
    new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(value);
}
