"""Statistics of an engine."""

from collections.abc import Sequence
from dataclasses import dataclass

from resonance.engine.outputs import Piece
from resonance.engine.sequence import Chunk


@dataclass(slots=True)
class Counts:
    """The engine's counters."""

    requests: int = 0
    cancelled: int = 0
    steps: int = 0
    chunks: int = 0  # computed, one a sequence and step
    prompt_tokens: int = 0
    cached_tokens: int = 0  # prompt tokens taken from the prefix cache
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    busy_seconds: float = 0.0  # spent in steps

    def add(self, chunk: Chunk, pieces: Sequence[Piece]) -> None:
        """Count a computed chunk and the tokens generated after it."""
        generated = sum(piece.token_id is not None for piece in pieces)
        self.chunks += 1
        self.generated_tokens += generated
        self.drafted_tokens += len(chunk.drafted)
        self.accepted_tokens += max(0, generated - 1)


@dataclass(slots=True, kw_only=True)
class EngineStats(Counts):
    """The counters since the engine was created, its load and its configuration."""

    running: int  # sequences with a slot
    waiting: int  # sequences without one
    slots: int
    precision: str  # fp32, bf16, int8 or int4
    path: str  # the implementation that computes the steps
    notes: tuple[str, ...]  # what is unavailable on this machine, why, and what the engine uses instead
    weight_bytes: int
    cache_bytes: int
    load_seconds: float

    @property
    def hit_rate(self) -> float:
        """The share of prompt tokens taken from the prefix cache."""
        return _share(self.cached_tokens, self.prompt_tokens)

    @property
    def acceptance(self) -> float:
        """The share of drafted tokens that were accepted."""
        return _share(self.accepted_tokens, self.drafted_tokens)

    @property
    def batch_size(self) -> float:
        """The average number of sequences in a step."""
        return _share(self.chunks, self.steps)

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second spent in steps, prefill included."""
        return _share(self.generated_tokens, self.busy_seconds)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
