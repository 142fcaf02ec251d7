import { Dialog as Primitive } from "radix-ui";
import type { ComponentProps } from "react";
import { cn } from "@/lib/utils";
import { besideToasts, DialogOverlay } from "./dialog";
import { useReturnFocus } from "./return-focus";

export const Sheet = Primitive.Root;

/** A panel that slides in from one side and covers at most the page. */
export function SheetContent({
  side = "right",
  className,
  children,
  onCloseAutoFocus,
  ...props
}: ComponentProps<typeof Primitive.Content> & { side?: "left" | "right" }) {
  const focus = useReturnFocus({
    // The panel itself, and not its first button, whose tooltip would cover it.
    onOpenAutoFocus(event) {
      event.preventDefault();
      (event.currentTarget as HTMLElement).focus();
    },
    onCloseAutoFocus,
  });
  return (
    <Primitive.Portal>
      <DialogOverlay />
      <Primitive.Content
        data-slot="sheet-content"
        data-side={side}
        className={cn(
          "slide fixed outline-none inset-y-0 z-50 flex w-full max-w-96 flex-col bg-popover/90 shadow-2xl backdrop-blur-2xl backdrop-saturate-150",
          side === "right" ? "right-0 border-l" : "left-0 max-w-72 border-r",
          className,
        )}
        {...props}
        {...focus}
        {...besideToasts}
      >
        {children}
      </Primitive.Content>
    </Primitive.Portal>
  );
}
