import type { ComponentProps } from "react";
import { cn } from "@/lib/utils";

interface SwitchProps extends ComponentProps<"button"> {
  checked: boolean;
  onCheckedChange: (next: boolean) => void;
}

export function Switch({ className, checked, onCheckedChange, ...props }: SwitchProps) {
  return (
    <button
      type="button"
      role="switch"
      aria-checked={checked}
      data-slot="switch"
      className={cn(
        "group inline-flex h-6 w-10 shrink-0 items-center rounded-full border border-transparent bg-foreground/25 p-0.5 transition-colors disabled:opacity-45 aria-checked:bg-primary",
        className,
      )}
      onClick={() => onCheckedChange(!checked)}
      {...props}
    >
      <span className="block size-4.5 rounded-full bg-white shadow transition-transform group-aria-checked:translate-x-4 dark:group-aria-checked:bg-background" />
    </button>
  );
}
