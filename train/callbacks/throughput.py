"""Tokens a second, between one look and the next."""

import time

from lightning import Trainer


class Throughput:
    """A stopwatch for a running count of tokens."""

    def __init__(self) -> None:
        self._began = self._since = time.perf_counter()
        self._tokens = 0

    def start(self, tokens: int) -> None:
        """Begin to measure at a count of `tokens`."""
        self._began = self._since = time.perf_counter()
        self._tokens = tokens

    def lap(self, tokens: int) -> float:
        """Tokens a second since the last lap, or the start."""
        now = time.perf_counter()
        rate = (tokens - self._tokens) / (now - self._since)
        self._since, self._tokens = now, tokens
        return rate

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._began


def logged_every(trainer: Trainer) -> int:
    """`trainer.log_every_n_steps`."""
    return int(trainer.log_every_n_steps)  # pyright: ignore[reportAttributeAccessIssue]  # a connector sets it
