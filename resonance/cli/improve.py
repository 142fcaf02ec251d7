"""`resonance improve`: makes the checkpoint in service better with what people said to it, once or again and again."""

import sys
import time
from datetime import datetime, timedelta

from rich.console import Console

from resonance.errors import ResonanceError
from resonance.hydra_config import compose
from resonance.improve.run import EXIT_CODES, Outcome, improve
from resonance.improve.settings import Settings, settings_of

_PIPED_WIDTH = 160  # columns, where the output is no terminal


def main(overrides: list[str]) -> None:
    """Improve a checkpoint; see `configs/improve.yaml`, which has the exit codes."""
    settings = settings_of(compose("improve", overrides))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    try:
        if settings.every is not None:
            _again_and_again(settings, settings.every, console)
        if code := _once(settings, console):
            sys.exit(code)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted; the same command goes on where it stopped.") from None


def _once(settings: Settings, console: Console) -> int:
    outcome = improve(settings, console)
    _say(console, outcome)
    return EXIT_CODES[outcome.result]


def _again_and_again(settings: Settings, every: float, console: Console) -> None:
    """Begin an attempt every so many seconds, or as soon as the one before and quiet hours are over."""
    first = True
    while True:
        begun = time.monotonic()
        while settings.quiet_hours is not None and settings.quiet_hours.holds(datetime.now()):
            time.sleep(30)
        try:
            _once(settings, console)
        except ResonanceError as error:
            if first and error.exit_code == 2:  # a mistake of whoever started it
                raise
            console.print(f"Failed: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        first = False
        wait = max(0.0, begun + every - time.monotonic())
        at = datetime.now() + timedelta(seconds=wait)
        console.print(f"Next at {at:%Y-%m-%d %H:%M}.", style="dim", highlight=False)
        time.sleep(wait)


def _say(console: Console, outcome: Outcome) -> None:
    style = {"promoted": "green", "ready": "green", "refused": "yellow"}.get(outcome.result, "")
    console.print(outcome.sentence, style=style, markup=False, highlight=False, soft_wrap=True)
    if outcome.report is not None:
        console.print(f"Report: {outcome.report}", markup=False, highlight=False, soft_wrap=True)
