"""The memory that checkpoints take, estimated from their sizes before they are loaded."""

from collections.abc import Collection
from dataclasses import dataclass

from resonance.model_config import GPT2Config
from resonance.system_memory import available_bytes
from serve.settings import EngineSettings

BYTES = {"fp32": 4.0, "auto": 4.0, "bf16": 2.0, "int8": 1.25, "int4": 0.75}  # per parameter, with its scales


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """The memory that all served checkpoints may take: `memory_gb`, or the free memory where that is None."""

    engine: EngineSettings
    memory_gb: float | None

    def refusal(self, name: str, config: GPT2Config, loaded: Collection[GPT2Config]) -> str | None:
        """Return why one more checkpoint does not fit, and what to do; None when it fits."""
        needed = self._bytes(config)
        left = available_bytes() if self.memory_gb is None else self.memory_gb * 1e9 - sum(map(self._bytes, loaded))
        if needed <= left:
            return None
        found = f"{_gb(left)} of memory are free" if self.memory_gb is None else f"{self._limit()} leaves {_gb(left)}"
        unload = "Unload another one (DELETE /v1/models/NAME), or start" if len(loaded) > 1 else "Start"
        return f"{name} needs about {_gb(needed)} and {found}. {unload} the server with {self._remedies()}."

    def refusal_at_start(self, models: Collection[GPT2Config]) -> str | None:
        """Return why these checkpoints do not fit together, and what to do; None when they fit or no limit is set."""
        needed = sum(map(self._bytes, models))
        if self.memory_gb is None or needed <= self.memory_gb * 1e9:
            return None
        return (
            f"The checkpoints need about {_gb(needed)} together, more than {self._limit()}; serve fewer or smaller "
            f"ones, or start with {self._remedies()}."
        )

    def _bytes(self, config: GPT2Config) -> float:
        """Return the most memory that a model takes: its weights, and the KV cache of a full batch."""
        width, embeddings = config.n_embd, config.vocab_size * (1 if config.tie_weights else 2)
        blocks = config.n_layer * (12 * width * width + 13 * width)
        parameters = blocks + width * (embeddings + config.context_length + 2)
        kv_cache = 2 * config.n_layer * width * config.context_length * self.engine.max_batch_size
        return parameters * BYTES[self.engine.quantize or self.engine.dtype] + kv_cache * 4.0

    def _limit(self) -> str:
        return f"memory_gb={self.memory_gb:g}"

    def _remedies(self) -> str:
        """Return the settings that save memory and are not in use yet."""
        remedies = ["max_batch_size=1"] if self.engine.max_batch_size > 1 else []
        if self.engine.quantize is None:
            remedies.insert(0, "quantize=int8")
        if self.memory_gb is not None:
            remedies.insert(0, "a larger memory_gb")
        return " or ".join(remedies) or "a smaller checkpoint"


def _gb(size: float) -> str:
    return f"{max(0.0, size) / 1e9:.2f} GB"
