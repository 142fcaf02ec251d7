import { queryClient } from "@/api/queries";
import type { Model } from "@/api/types";
import { type Sampling, useSettings } from "@/settings/store";
import { getThread } from "./store";
import { ancestry, pathOf, type Thread } from "./tree";

/** What the server samples with where a request says nothing. */
export function serverSampling(model: Model | undefined): Partial<Sampling> {
  const { max_new_tokens, ...sampling } = model?.resonance?.sampling ?? {};
  return max_new_tokens === undefined ? {} : { ...sampling, max_tokens: max_new_tokens };
}

/** The served model of a name, which may be that of the checkpoint behind an alias. */
export function findModel(models: Model[] | undefined, name: string | null | undefined) {
  return (
    models?.find((model) => model.id === name) ??
    models?.find((model) => name && model.resonance?.checkpoint === name)
  );
}

/** The model that answered last in a thread, as far as it is served. */
export function lastModel(thread: Thread, models: Model[] | undefined): string | null {
  const answered = pathOf(thread).findLast((id) => thread.byId[id]?.role === "assistant");
  return findModel(models, answered && thread.byId[answered]?.model)?.id ?? null;
}

/** The model of the next answer in a conversation: the one chosen for it, else the one that answered last. */
export function modelOf(conversation: string | null): string | null {
  const { own, model } = useSettings.getState();
  const models = queryClient.getQueryData<Model[]>(["models"]);
  const served = (name: string | null | undefined) =>
    !models ? (name ?? null) : (findModel(models, name)?.id ?? null);
  if (!conversation) return served(model);
  return (
    served(own[conversation]?.model) ?? lastModel(getThread(conversation), models) ?? served(model)
  );
}

/** The system prompt under which a message of a thread stands. */
export function systemAt(thread: Thread, id: string | null): string {
  return ancestry(thread, id).findLast(({ system }) => system !== undefined)?.system ?? "";
}

/** The system prompt of the next answer in a conversation. */
export function systemIn(thread: Thread, chosen: string | undefined, fallback: string): string {
  if (chosen !== undefined) return chosen.trim();
  const path = pathOf(thread);
  // Before its first answer is stored, a conversation has the prompt of all new ones.
  const begun = path.some((id) => thread.byId[id]?.serverId);
  return begun ? systemAt(thread, path.at(-1) ?? null) : fallback.trim();
}

export function systemOf(conversation: string): string {
  const { own, system } = useSettings.getState();
  return systemIn(getThread(conversation), own[conversation]?.system, system);
}
