import type { ModelCard } from "@/api/types";
import type { Dictionary } from "@/i18n/en";
import { formatCount, formatNumber, formatShare } from "@/lib/format";

/** What is known of a checkpoint, as (name, value) pairs; what is not known is left out. */
export function cardLines(
  card: ModelCard | undefined,
  t: Dictionary,
  language: string,
): [string, string][] {
  if (!card) return [];
  const lines: [string, string | null][] = [
    [t.parameters, card.parameters ? formatCount(card.parameters, language) : null],
    [t.base, textOf(card.base)],
    [t.data, textOf(card.data)],
    [t.steps, card.steps ? formatCount(card.steps, language) : null],
    [t.template, textOf(card.template)],
    [t.runOf, card.run?.folder ?? null],
    [t.improvedFrom, card.promotion?.lineage.join(" ← ") || null],
    [
      t.learnedFrom,
      card.promotion?.judgements ? formatCount(card.promotion.judgements, language) : null,
    ],
    ...(card.promotion?.evidence ?? []).map(({ name, sentence }): [string, string] => [
      `${name}:`,
      sentence,
    ]),
    ...Object.entries(card.scores ?? {}).map(([name, value]): [string, string | null] => [
      name.replaceAll("_", " "),
      scoreOf(value, language),
    ]),
  ];
  return lines.filter((line): line is [string, string] => line[1] !== null);
}

/** A name as it is, the end of a path, or the name inside of an object. */
function textOf(value: unknown): string | null {
  if (typeof value === "string" && value) return value.replace(/^.*\/(?=[^/]+\/[^/]+$)/, "…/");
  if (value && typeof value === "object" && "name" in value) return textOf(value.name);
  return null;
}

/** A number, `{value}`, or `{exact_match: {value}}`. */
function scoreOf(value: unknown, language: string): string | null {
  if (typeof value === "number") {
    return value >= 0 && value <= 1 ? formatShare(value, language) : formatNumber(value, language);
  }
  if (!value || typeof value !== "object") return null;
  if ("value" in value) return scoreOf(value.value, language);
  if ("exact_match" in value) return scoreOf(value.exact_match, language);
  return null;
}
