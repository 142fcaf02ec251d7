import { Fragment, type MouseEvent, type ReactNode } from "react";

/** The second click of a double click comes within this time (ms), as systems have it by default. */
const DOUBLE_CLICK = 500;

/** When either button was last clicked. The first question of a chat mounts its page, and these buttons, anew. */
let lastClick = Number.NEGATIVE_INFINITY;

function dropSecondClick(event: MouseEvent) {
  const second = event.timeStamp - lastClick < DOUBLE_CLICK;
  lastClick = event.timeStamp;
  if (!second) return;
  event.preventDefault();
  event.stopPropagation();
}

interface StartOrStopProps {
  running: boolean;
  start: ReactNode;
  stop: ReactNode;
}

/**
 * Two buttons in the same place, of which one is shown.
 *
 * They are two elements, so that a press on one never ends as a click on the other, and the second
 * click of a double click, which would meet the other one, is dropped.
 */
export function StartOrStop({ running, start, stop }: StartOrStopProps) {
  return (
    <span className="contents" onClickCapture={dropSecondClick}>
      <Fragment key={running ? "stop" : "start"}>{running ? stop : start}</Fragment>
    </span>
  );
}
