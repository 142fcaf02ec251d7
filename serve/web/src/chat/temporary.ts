/** The one conversation that the server never stores: it is in this tab's memory, and goes with it. */
export const TEMPORARY = "temporary";

/** Whether it is that conversation, or the name of something of it. */
export function isTemporary(name: string): boolean {
  return name === TEMPORARY || name.startsWith(`${TEMPORARY}.`);
}
