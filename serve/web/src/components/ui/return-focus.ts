import { useRef } from "react";
import { focusComposer } from "@/lib/focus";

interface FocusEvents {
  onOpenAutoFocus?: (event: Event) => void;
  onCloseAutoFocus?: (event: Event) => void;
}

/**
 * For panels that no button of theirs opens: Radix would then leave the focus nowhere.
 *
 * It goes back to where it was before, or into the message field when that is gone. Radix asks a moment after the
 * panel has closed: who has moved the focus since then keeps it.
 */
export function useReturnFocus({ onOpenAutoFocus, onCloseAutoFocus }: FocusEvents): FocusEvents {
  const before = useRef<Element>(null);
  return {
    onOpenAutoFocus(event) {
      before.current = document.activeElement;
      onOpenAutoFocus?.(event);
    },
    onCloseAutoFocus(event) {
      onCloseAutoFocus?.(event);
      if (event.defaultPrevented) return;
      event.preventDefault();
      if (document.activeElement && document.activeElement !== document.body) return;
      const place = before.current;
      if (place instanceof HTMLElement && place.isConnected && place !== document.body) {
        place.focus();
      } else focusComposer();
    },
  };
}
