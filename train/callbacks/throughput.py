"""Measures tokens per second."""

import time

from lightning import Trainer


class Throughput:
    """A stopwatch for a growing count, of tokens or of operations; time between `pause` and `go_on` does not count."""

    def __init__(self) -> None:
        self._started = self._lap_started = self._paused = time.perf_counter()
        self._tokens = 0.0

    def start(self, tokens: float) -> None:
        """Start measuring at a count of `tokens`."""
        self._started = self._lap_started = time.perf_counter()
        self._tokens = tokens

    def lap(self, tokens: float) -> float:
        """The count's growth per second since the last lap, or since the start."""
        now = time.perf_counter()
        rate = (tokens - self._tokens) / max(now - self._lap_started, 1e-9)
        self._lap_started, self._tokens = now, tokens
        return rate

    def pause(self) -> None:
        """Stop the laps' time, for a validation."""
        self._paused = time.perf_counter()

    def go_on(self) -> None:
        """Let the laps' time go on."""
        self._lap_started += time.perf_counter() - self._paused

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started


def logged_every(trainer: Trainer) -> int:
    """`trainer.log_every_n_steps`."""
    return int(trainer.log_every_n_steps)  # pyright: ignore[reportAttributeAccessIssue]  # a connector sets it
