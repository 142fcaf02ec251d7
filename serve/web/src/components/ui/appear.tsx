import { AnimatePresence, usePresence } from "motion/react";
import { useAnimate } from "motion/react-mini";
import { type ComponentProps, useEffect, useLayoutEffect, useRef } from "react";
import { useMediaQuery } from "@/hooks/use-media-query";

interface Pose {
  opacity?: number;
  transform?: string;
  width?: string;
}

interface AppearProps extends Omit<ComponentProps<"div">, "hidden"> {
  open: boolean;
  /** How it looks before it comes and after it went. */
  hidden: Pose;
  shown: Pose;
  /** Seconds. */
  duration?: number;
}

/** An element that comes and goes by degrees; what is there from the start simply stands there. */
export function Appear({ open, ...props }: AppearProps) {
  const settled = useRef(open);
  useEffect(() => {
    if (!open) settled.current = false;
  }, [open]);
  return <AnimatePresence>{open && <Inner {...props} still={settled.current} />}</AnimatePresence>;
}

function Inner({
  hidden,
  shown,
  duration = 0.22,
  still,
  ...props
}: Omit<AppearProps, "open"> & { still: boolean }) {
  const [element, animate] = useAnimate<HTMLDivElement>();
  const [present, remove] = usePresence();
  const reduced = useMediaQuery("(prefers-reduced-motion: reduce)");
  const entered = useRef(still);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the poses are the same at every call
  useLayoutEffect(() => {
    const how = { duration, ease: [0.2, 0.8, 0.2, 1] as const };
    if (!present) {
      if (reduced) remove();
      else void animate(element.current, { ...hidden }, how).then(remove);
    } else if (!entered.current && !reduced) {
      const keyframes = Object.entries(shown).map(([name, value]) => [
        name,
        [hidden[name as keyof Pose], value],
      ]);
      void animate(element.current, Object.fromEntries(keyframes), how);
    }
    entered.current = true;
  }, [present]);
  return <div ref={element} {...props} />;
}
