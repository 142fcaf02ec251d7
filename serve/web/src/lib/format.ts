/** 124439808 -> "124M", with the decimal sign of the language; the letters are the field's own. */
export function formatCount(value: number, language = "en"): string {
  const written = new Intl.NumberFormat("en", {
    notation: "compact",
    maximumFractionDigits: 1,
  }).format(value);
  const point = new Intl.NumberFormat(language)
    .formatToParts(1.5)
    .find((part) => part.type === "decimal");
  return written.replace(".", point?.value ?? ".");
}

/** A share as a percentage with one decimal. */
export function formatShare(value: number, language: string): string {
  const style = { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 } as const;
  return new Intl.NumberFormat(language, style).format(value);
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
