/**
 * A formula between lone dollars, by Pandoc's rule: no space inside of either, and no digit after
 * the second, so that two prices are none.
 */
const LONE = /(?<![\\$\w])\$(?![\s$])([^$\n]*[^\s$\\])\$(?![$\w])/;

/** True when a text may hold formulas, and the maths renderer is worth loading. */
export function hasMath(text: string): boolean {
  return /\$\$|\\\(|\\\[/.test(text) || LONE.test(text);
}

/** A formula between double dollars that has its lines to itself, be it one line or several. */
const ALONE = /^([ \t]*)\$\$([^$]+?)\$\$[ \t]*$/gm;

/** Turns LaTeX's own delimiters, and lone dollars, into the `$$` of Markdown, outside of code. */
export function normaliseMath(text: string): string {
  return text
    .split(/(```[\s\S]*?(?:```|$)|`[^`\n]*`)/)
    .map((part, i) =>
      i % 2 === 1
        ? part
        : part
            .replace(/\\\[([\s\S]+?)\\\]/g, (_, formula: string) => `\n$$\n${formula.trim()}\n$$\n`)
            .replace(/\\\((.+?)\\\)/g, (_, formula: string) => `$$${formula.trim()}$$`)
            .replace(ALONE, (_, indent: string, formula: string) =>
              ["$$", formula.trim(), "$$"].map((line) => indent + line).join("\n"),
            )
            .replace(new RegExp(LONE, "g"), (_, formula: string) => `$$${formula}$$`),
    )
    .join("");
}
