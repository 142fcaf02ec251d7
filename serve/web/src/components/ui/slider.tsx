import { Slider as Primitive } from "radix-ui";
import type { ComponentProps } from "react";
import { cn } from "@/lib/utils";

export function Slider({
  className,
  "aria-label": label,
  ...props
}: ComponentProps<typeof Primitive.Root>) {
  return (
    <Primitive.Root
      data-slot="slider"
      className={cn("relative flex h-6 w-full touch-none select-none items-center", className)}
      {...props}
    >
      <Primitive.Track className="relative h-1.5 grow overflow-hidden rounded-full bg-foreground/12">
        <Primitive.Range className="absolute h-full bg-primary" />
      </Primitive.Track>
      <Primitive.Thumb
        aria-label={label}
        className="block size-4.5 rounded-full border-2 border-primary bg-background shadow transition-transform hover:scale-110"
      />
    </Primitive.Root>
  );
}
