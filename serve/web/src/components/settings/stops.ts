/** At how many texts an answer may end, and how long each may be: the server's limits. */
const MOST = 4;
const LONGEST = 256;

/** Texts that end an answer, one a line; a line break within one is written \n. */
export function linesOfStops(stops: readonly string[]): string {
  return stops.map((stop) => stop.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")).join("\n");
}

export function stopsOfLines(lines: string): string[] {
  const read = (line: string) =>
    line.replace(/\\(n|\\)/g, (_, escaped) => (escaped === "n" ? "\n" : "\\")).slice(0, LONGEST);
  return lines
    .split("\n")
    .filter((line) => line !== "")
    .map(read)
    .slice(0, MOST);
}
