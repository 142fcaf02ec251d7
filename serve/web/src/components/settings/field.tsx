import type { ReactNode } from "react";
import { Label } from "@/components/ui/label";
import { ToggleGroup, ToggleGroupItem } from "@/components/ui/toggle-group";

/** A named setting: its label, what it does, and whatever changes it. */
export function Field({
  id,
  label,
  hint,
  value,
  children,
}: {
  id?: string;
  label: string;
  hint?: string;
  value?: ReactNode;
  children?: ReactNode;
}) {
  return (
    <div className="flex flex-col gap-1.5">
      <div className="flex items-baseline justify-between gap-3">
        <Label htmlFor={id}>{label}</Label>
        {value !== undefined && (
          <span className="text-muted-foreground text-sm tabular-nums">{value}</span>
        )}
      </div>
      {children}
      {hint && <p className="text-muted-foreground text-xs leading-relaxed">{hint}</p>}
    </div>
  );
}

export function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="flex flex-col gap-5">
      <h3 className="font-semibold text-sm">{title}</h3>
      {children}
    </section>
  );
}

/** A setting with a few named values. */
export function Choice<T extends string>({
  label,
  hint,
  value,
  options,
  disabled,
  onChange,
}: {
  label: string;
  hint?: string;
  value: T;
  options: [T, string][];
  disabled?: boolean;
  onChange: (value: T) => void;
}) {
  return (
    <Field label={label} hint={hint}>
      <ToggleGroup
        type="single"
        aria-label={label}
        disabled={disabled}
        value={value}
        onValueChange={(next) => next && onChange(next as T)}
      >
        {options.map(([name, shown]) => (
          <ToggleGroupItem key={name} value={name}>
            {shown}
          </ToggleGroupItem>
        ))}
      </ToggleGroup>
    </Field>
  );
}
