/** True when a text may hold formulas, and the maths renderer is worth loading. */
export function hasMath(text: string): boolean {
  return /\$\$|\\\(|\\\[/.test(text);
}

/** Turns LaTeX's own delimiters into the `$$` of Markdown, outside of code. */
export function normaliseMath(text: string): string {
  return text
    .split(/(```[\s\S]*?(?:```|$)|`[^`\n]*`)/)
    .map((part, i) =>
      i % 2 === 1
        ? part
        : part
            .replace(/\\\[([\s\S]+?)\\\]/g, (_, formula: string) => `\n$$\n${formula.trim()}\n$$\n`)
            .replace(/\\\((.+?)\\\)/g, (_, formula: string) => `$$${formula.trim()}$$`),
    )
    .join("");
}
