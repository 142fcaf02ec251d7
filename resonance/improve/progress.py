"""One view of all stages of an attempt: a live table on a terminal, a line a stage elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resonance.improve.journal import STAGES

_TITLES = {
    "gather": "gather feedback",
    "check": "enough?",
    "train": "train",
    "evaluate": "evaluate old and new",
    "gate": "gate",
    "promote": "promote",
}
_MARKS = {"waiting": ("·", "dim"), "running": ("▸", "cyan"), "done": ("✓", "green"), "stopped": ("✗", "red")}


class Progress:
    """Shows the stages; use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[str, str] = dict.fromkeys(STAGES, "waiting")
        self._details: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._started: dict[str, float] = {}
        self._live = (
            Live(console=console, get_renderable=self._table, refresh_per_second=4) if console.is_terminal else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage, state in self._states.items():
            if state == "running":
                self._states[stage] = "stopped"
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def start(self, stage: str) -> None:
        """A stage begins."""
        self._states[stage], self._started[stage] = "running", time.monotonic()

    def detail(self, stage: str, text: str) -> None:
        """What a running stage does."""
        self._details[stage] = text

    def end(self, stage: str, text: str, *, seconds: float | None = None, passed: bool = True) -> None:
        """A stage is over; `seconds` for one that an earlier call has done."""
        self._states[stage] = "done" if passed else "stopped"
        self._details[stage] = text
        self._seconds[stage] = time.monotonic() - self._started[stage] if seconds is None else seconds
        if self._live is None:
            mark, _ = _MARKS[self._states[stage]]
            line = f"{mark} {_TITLES[stage]:<21} {_clock(self._seconds[stage]):>7}  {text}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for stage, state in self._states.items():
            mark, style = _MARKS[state]
            running = time.monotonic() - self._started[stage] if state == "running" else None
            seconds = self._seconds.get(stage, running)
            clock = "" if seconds is None else _clock(seconds)
            table.add_row(
                Text(mark, style), Text(_TITLES[stage], style), Text(clock), Text(self._details.get(stage, ""))
            )
        return table


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
