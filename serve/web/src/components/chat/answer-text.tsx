import { type ComponentProps, lazy, Suspense } from "react";

const Markdown = lazy(() =>
  import("@/markdown/markdown").then(({ Markdown }) => ({ default: Markdown })),
);

/** An answer's text: as it is until the Markdown renderer has loaded, rendered from then on. */
export function Answer(props: ComponentProps<typeof Markdown>) {
  return (
    <Suspense fallback={<div className="prose-calm whitespace-pre-wrap">{props.text}</div>}>
      <Markdown {...props} />
    </Suspense>
  );
}
