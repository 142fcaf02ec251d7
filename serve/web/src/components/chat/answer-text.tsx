import { type ComponentProps, lazy, type ReactNode, Suspense } from "react";
import type { Markdown as Renderer } from "@/markdown/markdown";

type AnswerProps = ComponentProps<typeof Renderer>;

function Plain({ text }: AnswerProps): ReactNode {
  return <div className="prose-calm whitespace-pre-wrap">{text}</div>;
}

/** The renderer; where the server is away before it has come, texts are shown as they are. */
const load = () =>
  import("@/markdown/markdown").then(
    ({ Markdown }) => ({ default: Markdown as typeof Plain }),
    () => ({ default: Plain }),
  );

const Markdown = lazy(load);

/** Fetches the renderer before there is anything to render. */
export const preloadAnswer = () => void import("@/markdown/markdown").catch(() => {});

/** An answer's text: as it is until the Markdown renderer has loaded, rendered from then on. */
export function Answer(props: AnswerProps) {
  // What has no text yet needs no renderer.
  if (props.text === "") return null;
  return (
    <Suspense fallback={<Plain {...props} />}>
      <Markdown {...props} />
    </Suspense>
  );
}
