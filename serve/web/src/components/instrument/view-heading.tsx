export function ViewHeading({ title, note }: { title: string; note: string }) {
  return (
    <div>
      <h1 className="font-semibold text-xl tracking-tight">{title}</h1>
      <p className="mt-1 text-muted-foreground text-sm">{note}</p>
    </div>
  );
}
