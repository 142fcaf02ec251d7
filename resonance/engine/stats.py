"""What an engine has done so far, and how fast."""

from collections.abc import Sequence
from dataclasses import dataclass

from resonance.engine.outputs import Piece
from resonance.engine.sequence import Chunk


@dataclass(slots=True)
class Counts:
    """What is counted as it happens."""

    requests: int = 0
    cancelled: int = 0
    steps: int = 0
    chunks: int = 0  # texts that had a part in a step, summed over the steps
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompts', taken from an earlier text's cache
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    busy_seconds: float = 0.0  # spent in steps

    def add(self, chunk: Chunk, pieces: Sequence[Piece]) -> None:
        """Count a computed chunk and what it brought: its text's next token, and one for each right guess."""
        self.chunks += 1
        if chunk.text.scored_ids:
            return
        self.generated_tokens += len(pieces)
        self.drafted_tokens += len(chunk.drafted)
        self.accepted_tokens += max(0, len(pieces) - 1)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the engine was made, and how it runs."""

    running: int
    waiting: int
    slots: int
    requests: int
    cancelled: int
    steps: int
    chunks: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    busy_seconds: float
    precision: str  # fp32, bf16, int8 or int4
    path: str  # which implementation computes the steps
    notes: tuple[str, ...]  # what was not available, and what was done instead
    weight_bytes: int
    cache_bytes: int
    load_seconds: float

    @property
    def hit_rate(self) -> float:
        """The share of prompt tokens that did not have to be computed."""
        return _share(self.cached_tokens, self.prompt_tokens)

    @property
    def acceptance(self) -> float:
        """The share of guessed tokens that were right."""
        return _share(self.accepted_tokens, self.drafted_tokens)

    @property
    def batch_size(self) -> float:
        """How many texts shared a step, on average."""
        return _share(self.chunks, self.steps)

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens for each second spent in steps, prompts' time included."""
        return _share(self.generated_tokens, self.busy_seconds)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
