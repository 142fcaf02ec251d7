import { create } from "zustand";
import { getThread } from "./store";
import { pathOf } from "./tree";

/** The question whose wording is being changed, by its id on the page. */
export const useEditing = create<{ id: string | null }>()(() => ({ id: null }));

export function edit(id: string | null): void {
  useEditing.setState({ id });
}

/** Opens the newest question of the shown branch for editing; false where there is none. */
export function editNewest(conversation: string): boolean {
  const thread = getThread(conversation);
  const newest = pathOf(thread).findLast((id) => thread.byId[id]?.role === "user");
  if (newest) edit(newest);
  return newest !== undefined;
}
