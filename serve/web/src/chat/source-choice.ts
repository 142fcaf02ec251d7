import { queryClient } from "@/api/queries";
import type { Health, SourceChoice } from "@/api/types";
import { setOwn, useSettings } from "@/settings/store";

/** The name of the new chat among the conversations, until it is begun. */
const NEW = "new";

/** What the reader can choose between: the web only where the server searches it. Without a choice, the first. */
export function sourceOptions(health: Health | undefined): readonly SourceChoice[] {
  const web = health?.search?.sources?.includes("web");
  return web ? ["both", "web", "documents", "off"] : ["documents", "off"];
}

/** The sources chosen for a conversation, as far as the server has them; undefined: as it is configured. */
export function sourcesOf(conversation: string | null): SourceChoice | undefined {
  const chosen = useSettings.getState().own[conversation ?? NEW]?.sources;
  const options = sourceOptions(queryClient.getQueryData<Health>(["health"]));
  return chosen && options.includes(chosen) ? chosen : undefined;
}

/** Like {@link sourcesOf}, for what is chosen, whether the server has it or not. */
export function useChosenSources(conversation: string | null): SourceChoice | undefined {
  return useSettings((state) => state.own[conversation ?? NEW]?.sources) ?? undefined;
}

/** Notes in this browser which sources a conversation draws on. */
export function noteSources(
  conversation: string | null,
  sources: SourceChoice | null | undefined,
): void {
  const name = conversation ?? NEW;
  const known = useSettings.getState().own[name]?.sources ?? null;
  if (known !== (sources ?? null)) setOwn(name, { sources: sources ?? null });
}

/** The new chat has become a conversation: what was chosen for it goes along, and the next one has none. */
export function beginWithSources(conversation: string): void {
  noteSources(conversation, useSettings.getState().own[NEW]?.sources);
  noteSources(null, null);
}
