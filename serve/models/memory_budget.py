"""How much memory checkpoints take, and whether there is so much: worked out from their sizes, before they are read."""

from collections.abc import Collection
from dataclasses import dataclass

from resonance.model import GPT2Config
from resonance.system_memory import available_bytes
from serve.settings import EngineSettings

BYTES = {"fp32": 4.0, "auto": 4.0, "bf16": 2.0, "int8": 1.25, "int4": 0.75}  # a parameter, with its scales


@dataclass(frozen=True, slots=True)
class Room:
    """The memory that served checkpoints may take together: `memory_gb`, or what is free where that is None."""

    engine: EngineSettings
    memory_gb: float | None

    def too_little_for(self, name: str, config: GPT2Config, held: Collection[GPT2Config]) -> str | None:
        """Why one more checkpoint cannot be held, and what to do; None where it can."""
        needed = self._bytes(config)
        left = available_bytes() if self.memory_gb is None else self.memory_gb * 1e9 - sum(map(self._bytes, held))
        if needed <= left:
            return None
        found = f"{_gb(left)} of memory are free" if self.memory_gb is None else f"{self._budget()} leaves {_gb(left)}"
        unload = "Unload another one (DELETE /v1/models/NAME), or start" if len(held) > 1 else "Start"
        return f"{name} needs about {_gb(needed)} and {found}. {unload} the server with {self._ways()}."

    def too_little_at_start(self, models: Collection[GPT2Config]) -> str | None:
        """Why these checkpoints cannot be held together, and what to do; None where they can or nobody set a limit."""
        needed = sum(map(self._bytes, models))
        if self.memory_gb is None or needed <= self.memory_gb * 1e9:
            return None
        return (
            f"The checkpoints need about {_gb(needed)} together, more than {self._budget()}; serve fewer or smaller "
            f"ones, or start with {self._ways()}."
        )

    def _bytes(self, config: GPT2Config) -> float:
        """What a model takes at most: its weights, and keys and values of a full batch."""
        width, embeddings = config.n_embd, config.vocab_size * (1 if config.tie_weights else 2)
        blocks = config.n_layer * (12 * width * width + 13 * width)
        parameters = blocks + width * (embeddings + config.context_length + 2)
        cached = 2 * config.n_layer * width * config.context_length * self.engine.max_batch_size
        return parameters * BYTES[self.engine.quantize or self.engine.dtype] + cached * 4.0

    def _budget(self) -> str:
        return f"memory_gb={self.memory_gb:g}"

    def _ways(self) -> str:
        """What makes room, of what is not done already."""
        ways = ["max_batch_size=1"] if self.engine.max_batch_size > 1 else []
        if self.engine.quantize is None:
            ways.insert(0, "quantize=int8")
        if self.memory_gb is not None:
            ways.insert(0, "a larger memory_gb")
        return " or ".join(ways) or "a smaller checkpoint"


def _gb(size: float) -> str:
    return f"{max(0.0, size) / 1e9:.2f} GB"
