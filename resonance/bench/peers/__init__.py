"""The programs under comparison, one module each: prepares its files, loads it, and generates greedily.

No module imports more than its program does, so that a program's memory is its own.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

MODULES = {"transformers": "transformers", "ctranslate2": "ctranslate2", "llama.cpp": "llama_cpp"}
PRECISIONS: "dict[str, tuple[Precision, ...]]" = {
    "resonance": ("fp32", "bf16", "int8", "int4"),
    "transformers": ("fp32", "bf16"),
    "ctranslate2": ("fp32", "bf16", "int8"),
    "llama.cpp": ("fp32", "bf16", "int8", "int4"),
}


class Unsupported(Exception):
    """A precision that the program cannot compute on this machine."""


class Program(Protocol):
    """A loaded model."""

    vocab_size: int
    needed_bytes: int | None  # of weights and KV cache, where the program reports them

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """Generate exactly `new_tokens` greedily for each prompt, in one batch."""


class Peer(Protocol):
    """A module of this package."""

    def prepare(self, folder: Path, precision: "Precision", /) -> None:
        """Write beside the Hugging Face checkpoint in `folder` what the program reads instead. Raises Unsupported."""

    def load(self, folder: Path, precision: "Precision", batch: int, threads: int, /) -> Program:
        """Load the program, once prepared. Raises Unsupported."""


def peer(program: str) -> Peer:
    """The module of a program."""
    return import_module(f"resonance.bench.peers.{program.replace('.', '_')}")
