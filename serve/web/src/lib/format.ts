/** 124439808 -> "124M". */
export function formatCount(value: number): string {
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(
    value,
  );
}

/** Three significant digits at most, without trailing zeros. */
export function formatNumber(value: number, language: string): string {
  return new Intl.NumberFormat(language, { maximumSignificantDigits: 3 }).format(value);
}

/** The time of day; what is older than a day also has its date. */
export function formatClock(iso: string, language: string): string {
  const date = new Date(iso);
  const old = Date.now() - date.getTime() > 24 * 3600 * 1000;
  const style = old
    ? ({ dateStyle: "short", timeStyle: "short" } as const)
    : { timeStyle: "short" as const };
  return new Intl.DateTimeFormat(language, style).format(date);
}

export function formatTime(iso: string, language: string): string {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(
    new Date(iso),
  );
}
