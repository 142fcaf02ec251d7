"""Tracks the requests that are open: adds them, routes their pieces, pauses, cancels and closes them."""

from collections import abc, deque
from itertools import count

from resonance.engine.outputs import Piece
from resonance.engine.sampling_params import EngineError
from resonance.engine.scheduler import Scheduler
from resonance.engine.sequence import Sequence
from resonance.engine.stats import Counts


class RequestTracker:
    """Maps request ids, which callers know, to sequences, which the scheduler knows."""

    def __init__(self, scheduler: Scheduler, counts: Counts) -> None:
        self._scheduler, self._counts = scheduler, counts
        self._open: dict[str, list[Sequence]] = {}  # unfinished sequences by request id
        self._pieces: deque[tuple[str, Piece]] = deque()
        self._numbers = count(1)

    @property
    def has_pieces(self) -> bool:
        """Whether there are pieces to collect."""
        return bool(self._pieces)

    def available_id(self, request_id: str | None) -> str:
        """The given id, or a new one for None. Raises EngineError when an open request has it."""
        if request_id is None:
            names = (f"request-{number}" for number in self._numbers)
            return next(name for name in names if name not in self._open)
        if request_id in self._open:
            raise EngineError(f"There is already a request {request_id!r} under way; give it another id.")
        return request_id

    def add(self, sequences: abc.Iterable[Sequence]) -> None:
        """Open requests. Of each, the first sequence is queued; its siblings follow once it has computed the prompt."""
        for sequence in sequences:
            self._open.setdefault(sequence.request_id, []).append(sequence)
            if sequence.index == 0:
                self._scheduler.add(sequence)
                self._counts.requests += 1

    def deliver(self, sequence: Sequence, pieces: abc.Sequence[Piece]) -> None:
        """Route a sequence's pieces to its caller; close the sequence, which frees its slot, when it is finished."""
        if pieces:  # the prompt is in the cache: its siblings can copy it from there
            for sibling in sequence.siblings:
                self._scheduler.add(sibling)
            sequence.siblings.clear()
        if sequence.pieces is None:
            self._pieces.extend((sequence.request_id, piece) for piece in pieces)
        else:
            sequence.pieces.extend(pieces)
        if sequence.finish_reason is not None:
            self._close(sequence)

    def collect(self) -> list[tuple[str, Piece]]:
        """Return the pieces delivered since the last call, in order."""
        pieces = list(self._pieces)
        self._pieces.clear()
        return pieces

    def cancel(self, request_id: str) -> bool:
        """End a request's sequences. False when no open request has this id."""
        sequences = list(self._open.get(request_id, ()))
        for sequence in sequences:
            sequence.siblings.clear()
            self.deliver(sequence, [sequence.cancel()])
        self._counts.cancelled += bool(sequences)
        return bool(sequences)

    def pause(self, request_id: str, *, paused: bool) -> None:
        """Pause or resume a request's sequences, those not yet queued included.

        Sequences that generate nothing are never paused: their prompts bound the memory of their output.
        """
        for sequence in self._open.get(request_id, ()):
            if not paused:
                self._scheduler.resume(sequence)
            elif sequence.consumer is None:
                self._scheduler.pause(sequence)

    def _close(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        self._counts.prompt_tokens += sequence.prompt_tokens if sequence.slot >= 0 else 0
        self._counts.cached_tokens += sequence.cached_tokens
        unfinished = self._open[sequence.request_id]
        unfinished.remove(sequence)
        if not unfinished:
            del self._open[sequence.request_id]
