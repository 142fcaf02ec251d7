"""The programs that are compared, each behind the same few lines: prepare its files, load, and generate greedily.

Nothing here imports more than the program itself does, so that each one's memory is its own.
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
    needed_bytes: int | None  # of weights and cache, where the program tells

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """Generate exactly `new_tokens` for each prompt, all at once, the likeliest each time."""
        ...


def prepare(who: str, folder: Path, precision: "Precision") -> None:
    """Write beside the Hugging Face checkpoint in `folder` what the program reads instead. Raises Unsupported."""
    _module(who).prepare(folder, precision)


def load(who: str, folder: Path, precision: "Precision", batch: int, threads: int) -> Program:
    """Load a program, once prepared. Raises Unsupported."""
    return _module(who).load(folder, precision, batch, threads)


class _Module(Protocol):
    def prepare(self, folder: Path, precision: "Precision", /) -> None: ...
    def load(self, folder: Path, precision: "Precision", batch: int, threads: int, /) -> Program: ...


def _module(who: str) -> _Module:
    return import_module(f"resonance.bench.peers.{who.replace('.', '_')}")
