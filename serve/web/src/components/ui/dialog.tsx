import { X } from "lucide-react";
import { Dialog as Primitive } from "radix-ui";
import type { ComponentProps } from "react";
import { useWords } from "@/i18n";
import { cn } from "@/lib/utils";
import { Button } from "./button";
import { useReturnFocus } from "./return-focus";

export const Dialog = Primitive.Root;
export const DialogTrigger = Primitive.Trigger;

export function DialogOverlay({ className, ...props }: ComponentProps<typeof Primitive.Overlay>) {
  return (
    <Primitive.Overlay
      data-slot="dialog-overlay"
      className={cn("fade fixed inset-0 z-40 bg-black/30 backdrop-blur-[2px]", className)}
      {...props}
    />
  );
}

/** Stays open while the reader presses a toast's button: to undo what was done in it, say. */
export const besideToasts: Pick<
  ComponentProps<typeof Primitive.Content>,
  "onPointerDownOutside"
> = {
  onPointerDownOutside(event) {
    if ((event.target as Element).closest("[data-sonner-toaster]")) event.preventDefault();
  },
};

export function DialogContent({
  className,
  children,
  onOpenAutoFocus,
  onCloseAutoFocus,
  ...props
}: ComponentProps<typeof Primitive.Content>) {
  const focus = useReturnFocus({ onOpenAutoFocus, onCloseAutoFocus });
  return (
    <Primitive.Portal>
      <DialogOverlay />
      <Primitive.Content
        data-slot="dialog-content"
        className={cn(
          "pop fixed inset-x-4 top-[12vh] z-50 mx-auto flex max-h-[76vh] max-w-lg flex-col gap-4 overflow-y-auto rounded-2xl border bg-popover p-6 shadow-2xl",
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

export function DialogTitle({ className, ...props }: ComponentProps<typeof Primitive.Title>) {
  return (
    <Primitive.Title className={cn("font-semibold text-lg tracking-tight", className)} {...props} />
  );
}

export function DialogDescription({
  className,
  ...props
}: ComponentProps<typeof Primitive.Description>) {
  return (
    <Primitive.Description className={cn("text-muted-foreground text-sm", className)} {...props} />
  );
}

export function DialogClose() {
  const t = useWords();
  return (
    <Primitive.Close asChild>
      <Button variant="ghost" size="icon-sm" aria-label={t.close}>
        <X />
      </Button>
    </Primitive.Close>
  );
}
