import type { ComponentProps } from "react";
import { cn } from "@/lib/utils";

/** Grows with its text. */
export function Textarea({ className, ...props }: ComponentProps<"textarea">) {
  return (
    <textarea
      data-slot="textarea"
      className={cn(
        "scroll-quiet field-sizing-content min-h-16 w-full resize-none rounded-lg border border-input bg-background/60 px-3 py-2 text-sm placeholder:text-muted-foreground",
        className,
      )}
      {...props}
    />
  );
}
