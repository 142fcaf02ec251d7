import type { Candidate, Choice, Vote } from "@/api/votes";

type Contender = Pick<Candidate, "model" | "settings">;

/** Whether two answers come from the same checkpoint under the same settings; seeds do not count. */
function isSame(one: Contender, other: Contender): boolean {
  const names = new Set([...Object.keys(one.settings), ...Object.keys(other.settings)]);
  names.delete("seed");
  return (
    one.model === other.model &&
    [...names].every((name) => (one.settings[name] ?? null) === (other.settings[name] ?? null))
  );
}

/** How often `a` and `b` were found better than one another, on whichever side they stood. */
export function tallyOf(votes: Vote[], a: Contender, b: Contender): Record<Choice, number> {
  const tally = { a: 0, b: 0, tie: 0 };
  for (const vote of votes) {
    if (isSame(vote.a, a) && isSame(vote.b, b)) tally[vote.choice] += 1;
    else if (isSame(vote.a, b) && isSame(vote.b, a)) {
      tally[{ a: "b", b: "a", tie: "tie" }[vote.choice] as Choice] += 1;
    }
  }
  return tally;
}
