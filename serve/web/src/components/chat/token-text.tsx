import { GitBranch } from "lucide-react";
import { type KeyboardEvent, memo, useEffect, useRef, useState } from "react";
import type { TokenAlternative, TokenLogprob } from "@/api/types";
import { linesOf } from "@/chat/token-lines";
import { Button } from "@/components/ui/button";
import { Popover, PopoverAnchor, PopoverContent } from "@/components/ui/popover";
import { useLanguage, useWords } from "@/i18n";
import { cn } from "@/lib/utils";

interface TokenTextProps {
  tokens: TokenLogprob[];
  /** Stands in a line of other text, without a legend. */
  inline?: boolean;
  /** Offers to go on from token `index` with another one in its place. */
  onFork?: (index: number, alternative: TokenAlternative) => void;
}

/** How long the pointer rests on a token before its alternatives come, and goes before they leave (ms). */
const REST = 140;

/** An answer token by token, each coloured by how sure the model was; one shows what else was likely. */
export function TokenText({ tokens, inline = false, onFork }: TokenTextProps) {
  const t = useWords();
  const [open, setOpen] = useState<number | null>(null);
  const [anchor, setAnchor] = useState<HTMLElement | null>(null);
  /** Opened by pointing only: the focus stays where it is. */
  const glance = useRef(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const shown = open === null ? undefined : tokens[open];
  const first = tokens.findIndex((token) => !token.given);
  useEffect(() => () => clearTimeout(timer.current), []);

  function show(token: HTMLElement) {
    clearTimeout(timer.current);
    setAnchor(token);
    setOpen(Number(token.dataset.token));
  }

  /** What is opened by pointing closes when the pointer leaves both the token and the card. */
  function later(then: () => void) {
    clearTimeout(timer.current);
    timer.current = setTimeout(then, REST);
  }
  const leave = () => glance.current && later(() => setOpen(null));

  /** One stop for the Tab key; the arrows go from token to token. */
  function onKeyDown(event: KeyboardEvent<HTMLElement>) {
    const target = event.target as HTMLElement;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const to = Number(target.dataset.token) + step;
      event.currentTarget.querySelector<HTMLElement>(`[data-token="${to}"]`)?.focus();
    } else if (event.key === "Enter" || event.key === " ") target.click();
    else return;
    event.preventDefault();
  }

  return (
    <>
      <Popover open={shown !== undefined} onOpenChange={(next) => !next && setOpen(null)}>
        <PopoverAnchor virtualRef={{ current: anchor }} />
        <div
          role="toolbar"
          dir="auto"
          aria-label={t.tokenLegend}
          className={cn("whitespace-pre-wrap break-words leading-8", inline && "inline")}
          onKeyDown={onKeyDown}
          onClick={(event) => {
            const token = tokenAt(event.target);
            if (!token) return;
            glance.current = false;
            show(token);
          }}
          onPointerOver={(event) => {
            const token = tokenAt(event.target);
            if (!token || event.pointerType !== "mouse" || (shown && !glance.current)) return;
            later(() => {
              glance.current = true;
              show(token);
            });
          }}
          onPointerLeave={() => {
            clearTimeout(timer.current);
            leave();
          }}
        >
          {linesOf(tokens).map(({ from, to }) => (
            <Line
              key={from}
              tokens={tokens}
              from={from}
              to={to}
              inline={inline && from === 0}
              open={open !== null && open >= from && open < to ? open : null}
              stop={first}
            />
          ))}
        </div>
        {shown && (
          <PopoverContent
            className="w-72 p-3"
            aria-label={t.alternatives}
            onOpenAutoFocus={(event) => glance.current && event.preventDefault()}
            onCloseAutoFocus={(event) => {
              event.preventDefault();
              if (!glance.current) anchor?.focus();
            }}
            onPointerEnter={() => clearTimeout(timer.current)}
            onPointerLeave={leave}
          >
            <Alternatives
              token={shown}
              onFork={
                onFork &&
                ((alternative) => {
                  glance.current = true; // what comes next takes the focus
                  setOpen(null);
                  onFork(open as number, alternative);
                })
              }
            />
          </PopoverContent>
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

function tokenAt(target: EventTarget): HTMLElement | null {
  return (target as HTMLElement).closest<HTMLElement>("[data-token]");
}

interface LineProps {
  /** All tokens of the text; those of a line never change, others may be added after it. */
  tokens: TokenLogprob[];
  from: number;
  to: number;
  /** It goes on in a line of other text. */
  inline: boolean;
  open: number | null;
  stop: number;
}

const Line = memo(
  function Line({ tokens, from, to, inline, open, stop }: LineProps) {
    const Element = inline ? "span" : "div";
    return (
      <Element>
        {tokens.slice(from, to).map((token, i) => (
          <Token
            // biome-ignore lint/suspicious/noArrayIndexKey: tokens are only ever added at the end
            key={i}
            index={from + i}
            token={token}
            open={from + i === open}
            stop={from + i === stop}
          />
        ))}
      </Element>
    );
  },
  (before, now) =>
    before.from === now.from &&
    before.to === now.to &&
    before.open === now.open &&
    before.stop === now.stop &&
    before.inline === now.inline &&
    before.tokens[now.from] === now.tokens[now.from] &&
    before.tokens[now.to - 1] === now.tokens[now.to - 1],
);

interface TokenProps {
  token: TokenLogprob;
  index: number;
  open: boolean;
  /** The Tab key stops here. */
  stop: boolean;
}

const Token = memo(function Token({ token, index, open, stop }: TokenProps) {
  const percent = usePercent();
  const probability = Math.exp(token.logprob);
  if (token.given) return <span>{token.token}</span>;
  return (
    // biome-ignore lint/a11y/useSemanticElements: a real button does not break across lines
    <span
      role="button"
      tabIndex={stop ? 0 : -1}
      aria-expanded={open}
      className="token"
      data-token={index}
      data-level={Math.min(9, Math.floor(probability * 10))}
      aria-label={`${visible(token.token)} ${percent(probability)}`}
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
    <>
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
    </>
  );
}

/** Shows the white space of a token. */
function visible(token: string): string {
  return token.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
}

function usePercent(): (value: number) => string {
  const language = useLanguage();
  const written = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 });
  // What was drawn is never impossible.
  return (value) => (value < 0.0005 ? `<${written.format(0.001)}` : written.format(value));
}
