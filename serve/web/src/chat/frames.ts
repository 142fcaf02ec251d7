/**
 * Gathers what arrives and hands it on once an animation frame.
 *
 * A hidden tab gets no frames; there a timer takes over, so that the answer goes on being written.
 */
export function batchByFrame<T>(flush: (items: T[]) => void) {
  let waiting: T[] = [];
  let cancel: (() => void) | null = null;

  function run() {
    cancel?.();
    cancel = null;
    if (waiting.length === 0) return;
    const items = waiting;
    waiting = [];
    flush(items);
  }

  return {
    add(item: T) {
      waiting.push(item);
      if (cancel) return;
      const frame = requestAnimationFrame(run);
      const timer = setTimeout(run, 250);
      cancel = () => {
        cancelAnimationFrame(frame);
        clearTimeout(timer);
      };
    },
    /** Hands on at once what is still waiting. */
    flush: run,
  };
}
