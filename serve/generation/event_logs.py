"""The event logs of all answers, within one bound in bytes: those that are read, and those kept for a replay."""

import asyncio
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager

from serve.api.errors import ApiError, server_full
from serve.generation.event_stream import EventLog

KEPT_SECONDS = 60.0
KEPT_LOGS = 512
TOKEN_BYTES = 200  # of an answer that is collected as a whole: the token, and its text in the answer


def whole_answer_bytes(tokens: int, top_logprobs: int | None, logprob_bytes: int) -> int:
    """What an answer of so many tokens takes at most while it is collected and sent as a whole."""
    return tokens * (TOKEN_BYTES + (0 if top_logprobs is None else logprob_bytes * (1 + top_logprobs)))


class EventLogs:
    """The logs that can be read again: those being written, and those that ended a moment ago.

    `most_bytes` holds for what answers under way have reserved and for the logs that are kept beside, together.
    """

    def __init__(self, most_bytes: int = 1 << 28) -> None:
        self._most_bytes = most_bytes
        self._reserved = 0
        self._logs: OrderedDict[str, EventLog] = OrderedDict()

    @contextmanager
    def reserved(self, nbytes: int) -> Generator[None]:
        """Set memory aside for one more answer for as long as the block lasts; logs kept for a replay make way.

        Raises ApiError 400 for more than there can be, 429 for more than there is now.
        """
        if nbytes > self._most_bytes:
            raise ApiError(
                400,
                f"The answer may take {nbytes / 1e6:.0f} MB, and the server sets {self._most_bytes / 1e6:.0f} MB aside "
                "for all answers (limits.answers_bytes); ask for it with stream: true, or for fewer answers, tokens or "
                "log-probabilities.",
                code="answer_too_large",
            )
        if not self._make_way(nbytes):
            raise server_full()
        self._reserved += nbytes
        try:
            yield
        finally:
            self._reserved -= nbytes

    def _make_way(self, nbytes: int) -> bool:
        settled = [log for log in self._logs.values() if log.settled]  # the oldest first
        kept = sum(log.nbytes for log in settled)
        for log in settled:
            if self._reserved + kept + nbytes <= self._most_bytes:
                break
            kept -= log.nbytes
            self._drop(log)
        return self._reserved + kept + nbytes <= self._most_bytes

    def add(self, log: EventLog) -> None:
        """Keep a log until a while after its end; the oldest go when there are too many."""
        self._logs[log.name] = log
        while len(self._logs) > KEPT_LOGS:
            self._drop(next(iter(self._logs.values())))

    def forget_later(self, log: EventLog) -> None:
        """The log has ended: keep it for a while."""
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._drop, log)

    def find(self, name: str, owner: str) -> EventLog | None:
        """The log of that name, if it is the owner's."""
        log = self._logs.get(name)
        return log if log is not None and log.owner == owner else None

    def _drop(self, log: EventLog) -> None:
        self._logs.pop(log.name, None)
        if log.done and not log.is_read:
            log.settle()
        if log.settled:
            log.forget()
