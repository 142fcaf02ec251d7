"""The requests under way: taken in, their pieces handed out, closed when they end. It computes nothing."""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count

from resonance.engine.outputs import Piece
from resonance.engine.sampling_params import EngineError
from resonance.engine.scheduler import Scheduler
from resonance.engine.sequence import Text
from resonance.engine.stats import Counts


class Desk:
    """Between callers, who know requests by their ids, and the scheduler, which knows texts."""

    def __init__(self, scheduler: Scheduler, counts: Counts) -> None:
        self._scheduler, self._counts = scheduler, counts
        self._unfinished: dict[str, list[Text]] = {}  # by request
        self._outbox: deque[tuple[str, Piece]] = deque()
        self._numbers = count(1)

    def free_id(self, wanted: str | None) -> str:
        """The id that is wanted, or a new one. Raises EngineError when a request of that id is under way."""
        if wanted is None:
            names = (f"request-{number}" for number in self._numbers)
            return next(name for name in names if name not in self._unfinished)
        if wanted in self._unfinished:
            raise EngineError(f"There is already a request {wanted!r} under way; give it another id.")
        return wanted

    @property
    def has_mail(self) -> bool:
        """Whether there are pieces to collect."""
        return bool(self._outbox)

    def open(self, texts: Iterable[Text]) -> None:
        """Take requests in; of each, the first text is queued and the others when its prompt is computed."""
        for text in texts:
            self._unfinished.setdefault(text.request_id, []).append(text)
            if text.index == 0:
                self._scheduler.add(text)
                self._counts.requests += 1

    def deliver(self, text: Text, pieces: Sequence[Piece]) -> None:
        """Pass on what a text has brought, and close it if that was its end."""
        for sibling in text.siblings if pieces else ():  # the prompt is in the cache now
            self._scheduler.add(sibling)
        if pieces:
            text.siblings.clear()
        if text.pieces is None:
            self._outbox.extend((text.request_id, piece) for piece in pieces)
        else:
            text.pieces.extend(pieces)
        if text.finish_reason is not None:
            self._close(text)

    def cancel(self, request_id: str) -> bool:
        """End a request's texts. False when there is no such request (any more)."""
        texts = list(self._unfinished.get(request_id, ()))
        for text in texts:
            text.siblings.clear()
            self.deliver(text, [text.cancel()])
        self._counts.cancelled += bool(texts)
        return bool(texts)

    def pause(self, request_id: str, *, paused: bool) -> None:
        """Let a request's texts, those included that are still to be queued, wait or go on.

        Texts that do not generate go on: what these make of memory is bounded by their prompts.
        """
        for text in self._unfinished.get(request_id, ()):
            if not paused:
                self._scheduler.resume(text)
            elif text.generates:
                self._scheduler.pause(text)

    def collect(self) -> list[tuple[str, Piece]]:
        """The pieces delivered since the last time, in order."""
        pieces = list(self._outbox)
        self._outbox.clear()
        return pieces

    def _close(self, text: Text) -> None:
        self._scheduler.remove(text)
        self._counts.prompt_tokens += text.prompt_tokens if text.slot >= 0 else 0
        self._counts.cached_tokens += text.cached_tokens
        texts = self._unfinished[text.request_id]
        texts.remove(text)
        if not texts:
            del self._unfinished[text.request_id]
