"""Measures tokens per second."""

import time

from lightning import Trainer


class Throughput:
    """A stopwatch for a growing token count."""

    def __init__(self) -> None:
        self._started = self._lap_started = time.perf_counter()
        self._tokens = 0

    def start(self, tokens: int) -> None:
        """Start measuring at a count of `tokens`."""
        self._started = self._lap_started = time.perf_counter()
        self._tokens = tokens

    def lap(self, tokens: int) -> float:
        """Tokens per second since the last lap, or since the start."""
        now = time.perf_counter()
        rate = (tokens - self._tokens) / (now - self._lap_started)
        self._lap_started, self._tokens = now, tokens
        return rate

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started


def logged_every(trainer: Trainer) -> int:
    """`trainer.log_every_n_steps`."""
    return int(trainer.log_every_n_steps)  # pyright: ignore[reportAttributeAccessIssue]  # a connector sets it
