export const COMPOSER_ID = "composer";

/** Puts the cursor into the message field, but not where that would open a phone's keyboard. */
export function focusComposer(): void {
  if (window.matchMedia("(pointer: coarse)").matches) return;
  document.getElementById(COMPOSER_ID)?.focus();
}
