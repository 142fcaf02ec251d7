import { useTabTitle } from "@/hooks/use-tab-title";

/** What a tool is called, on the page and in the browser's tab, and what it does. */
export function ViewHeading({ title, note }: { title: string; note: string }) {
  useTabTitle(title);
  return (
    <div>
      <h1 className="font-semibold text-xl tracking-tight">{title}</h1>
      <p className="mt-1 text-muted-foreground text-sm">{note}</p>
    </div>
  );
}
