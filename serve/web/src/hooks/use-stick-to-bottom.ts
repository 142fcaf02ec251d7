import { useCallback, useEffect, useRef, useState } from "react";

/** So near to the end, in pixels, the reader is taken to be following. */
const NEAR = 32;

/**
 * Keeps a scroll area at its end while its content grows, until the reader scrolls up.
 *
 * Scrolling back to the end, or `stick()`, takes hold again; `release()` lets go.
 */
export function useStickToBottom() {
  const [area, setArea] = useState<HTMLElement | null>(null);
  const [content, setContent] = useState<HTMLElement | null>(null);
  const [stuck, setStuck] = useState(true);
  const holds = useRef(true);

  const hold = useCallback((value: boolean) => {
    holds.current = value;
    setStuck(value);
  }, []);

  useEffect(() => {
    if (!area || !content) return;
    let top = area.scrollTop;
    const toEnd = () => {
      if (holds.current) area.scrollTop = area.scrollHeight;
    };
    const onScroll = () => {
      const left = area.scrollHeight - area.clientHeight - area.scrollTop;
      if (left <= NEAR) hold(true);
      else if (area.scrollTop < top - 1) hold(false);
      top = area.scrollTop;
    };
    const observer = new ResizeObserver(toEnd);
    observer.observe(content);
    observer.observe(area);
    area.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      observer.disconnect();
      area.removeEventListener("scroll", onScroll);
    };
  }, [area, content, hold]);

  const stick = useCallback(
    (behavior: ScrollBehavior = "auto") => {
      hold(true);
      area?.scrollTo({ top: area.scrollHeight, behavior });
    },
    [area, hold],
  );

  const release = useCallback(() => hold(false), [hold]);

  return { areaRef: setArea, contentRef: setContent, stuck, stick, release };
}
