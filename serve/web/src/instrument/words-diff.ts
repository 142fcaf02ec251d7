/** A stretch of words, and whether the other text lacks it. */
export interface Stretch {
  text: string;
  only: boolean;
}

/** Above so many words a side the texts are not compared: the table would be too large. */
const LIMIT = 1_200;

/** Marks in each of two texts the words that the other does not have there (longest common subsequence). */
export function compareWords(a: string, b: string): [Stretch[], Stretch[]] {
  const left = a.match(/\s*\S+|\s+$/g) ?? [];
  const right = b.match(/\s*\S+|\s+$/g) ?? [];
  if (left.length > LIMIT || right.length > LIMIT) {
    return [[{ text: a, only: false }], [{ text: b, only: false }]];
  }
  const same = (i: number, j: number) => left[i]?.trim() === right[j]?.trim();
  const width = right.length + 1;
  const longest = new Uint16Array((left.length + 1) * width);
  const at = (i: number, j: number) => longest[i * width + j] as number;
  for (let i = left.length - 1; i >= 0; i -= 1) {
    for (let j = right.length - 1; j >= 0; j -= 1) {
      longest[i * width + j] = same(i, j)
        ? at(i + 1, j + 1) + 1
        : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const marked: [Stretch[], Stretch[]] = [[], []];
  let i = 0;
  let j = 0;
  while (i < left.length || j < right.length) {
    if (i < left.length && j < right.length && same(i, j)) {
      push(marked[0], left[i++] as string, false);
      push(marked[1], right[j++] as string, false);
    } else if (j >= right.length || (i < left.length && at(i + 1, j) >= at(i, j + 1))) {
      push(marked[0], left[i++] as string, true);
    } else push(marked[1], right[j++] as string, true);
  }
  return marked;
}

function push(stretches: Stretch[], text: string, only: boolean): void {
  const last = stretches.at(-1);
  if (last?.only === only) last.text += text;
  else stretches.push({ text, only });
}
