import { cn } from "@/lib/utils";

/** A wave that swells and dies away. */
export function Logo({ className }: { className?: string }) {
  return (
    <svg viewBox="0 0 32 32" aria-hidden="true" className={cn("text-primary", className)}>
      <rect width="32" height="32" rx="9" fill="currentColor" opacity="0.14" />
      <g fill="none" stroke="currentColor" strokeWidth="2.3" strokeLinecap="round">
        <path d="M6.5 16v.01M11.2 12.4v7.2M16 8.2v15.6M20.8 12.4v7.2M25.5 16v.01" />
      </g>
    </svg>
  );
}
