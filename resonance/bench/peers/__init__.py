"""The programs that are compared, each behind the same two lines: load, and generate greedily."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from resonance.engine.quantize import Precision

MODULES = {"transformers": "transformers", "ctranslate2": "ctranslate2", "llama.cpp": "llama_cpp"}
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "resonance": ("fp32", "bf16", "int8", "int4"),
    "transformers": ("fp32", "bf16"),
    "ctranslate2": ("fp32", "bf16", "int8"),
    "llama.cpp": ("fp32", "bf16", "int8", "int4"),
}


class Unsupported(Exception):
    """A precision that the program cannot compute on this machine."""


class Program(Protocol):
    """A loaded model."""

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """Generate exactly `new_tokens` for each prompt, all at once, the likeliest each time."""
        ...


def load(who: str, folder: Path, precision: Precision, batch: int, threads: int) -> Program:
    """Load a program with the Hugging Face checkpoint in `folder`. Raises Unsupported."""
    module = import_module(f"resonance.bench.peers.{who.replace('.', '_')}")
    return module.load(folder, precision, batch, threads)
