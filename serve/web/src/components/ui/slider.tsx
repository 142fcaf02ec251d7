import type { ComponentProps, CSSProperties } from "react";
import { cn } from "@/lib/utils";

interface SliderProps extends Omit<ComponentProps<"input">, "type" | "value" | "onChange"> {
  min: number;
  max: number;
  value: number;
  onValueChange: (value: number) => void;
}

/** A browser's own slider; `--filled` tells its style how much of the track lies before the thumb. */
export function Slider({ className, min, max, value, onValueChange, ...props }: SliderProps) {
  const filled = { "--filled": (value - min) / (max - min) } as CSSProperties;
  return (
    <input
      type="range"
      data-slot="slider"
      className={cn("slider h-6 w-full", className)}
      style={filled}
      min={min}
      max={max}
      value={value}
      onChange={(event) => onValueChange(event.target.valueAsNumber)}
      {...props}
    />
  );
}
