import type { ListedConversation } from "@/api/types";

export type Period = "today" | "yesterday" | "lastWeek" | "lastMonth" | "earlier";

const DAY = 86_400_000;

/** Sorts conversations (newest first) under the days of the reader's own time zone. */
export function groupByDay(
  conversations: ListedConversation[],
  now: Date,
): [Period, ListedConversation[]][] {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const groups = new Map<Period, ListedConversation[]>();
  for (const conversation of conversations) {
    const age = Math.ceil((midnight - Date.parse(conversation.updated_at)) / DAY);
    const period = periodOf(age);
    groups.set(period, [...(groups.get(period) ?? []), conversation]);
  }
  return [...groups];
}

/** `age` counts the midnights since. */
function periodOf(age: number): Period {
  if (age <= 0) return "today";
  if (age === 1) return "yesterday";
  if (age <= 7) return "lastWeek";
  return age <= 30 ? "lastMonth" : "earlier";
}
