"""The programs under comparison, one module each: prepares its files, loads it, and generates greedily.

No module imports more than its program does, so that a program's memory is its own; a program in a virtual environment
of its own runs its module there, without Resonance's packages.
"""

import json
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from resonance.bench.job import Job
    from resonance.engine.quantization import Precision

PROGRAMS = {  # by the peer's name in the configuration: a name with several ways of training runs all of them
    "transformers": ("transformers", "transformers packed"),
    "trl": ("trl", "trl packed"),
    "nanogpt": ("nanogpt",),
    "ctranslate2": ("ctranslate2",),
    "openvino": ("openvino",),
    "llamacpp": ("llama.cpp",),
}
PACKAGES = {"transformers": "transformers", "trl": "trl", "ctranslate2": "ctranslate2", "openvino": "openvino_genai"}
INTERPRETERS = ("openvino", "trl", "transformers", "ctranslate2")  # peers that may have a Python of their own
PRECISIONS: "dict[str, tuple[Precision, ...]]" = {
    "resonance": ("fp32", "bf16", "int8", "int4"),
    "transformers": ("fp32", "bf16"),
    "ctranslate2": ("fp32", "bf16", "int8"),
    "openvino": ("fp32", "bf16", "int8", "int4"),
    "llama.cpp": ("fp32", "bf16", "int8", "int4"),
}
_MODULES = {"llama.cpp": "llama_cpp"}
_PLACES = "RESONANCE_BENCH_PLACES"


class Unsupported(Exception):
    """A precision that the program cannot compute on this machine."""


class Program(Protocol):
    """A loaded model."""

    vocab_size: int
    needed_bytes: int | None  # of weights and KV cache, where the program reports them

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """Generate exactly `new_tokens` greedily for each prompt, in one batch."""


class Tool(Protocol):
    """A program that measures itself, by its own benchmark."""

    def measure(self, job: "Job") -> dict[str, object]:
        """The figures of a job, as a workload's."""


class Peer(Protocol):
    """A module of this package."""

    def prepare(self, folder: Path, precision: "Precision", /) -> None:
        """Write beside the Hugging Face checkpoint in `folder` what the program reads instead. Raises Unsupported."""

    def load(self, folder: Path, precision: "Precision", batch: int, threads: int, /) -> Program | Tool:
        """Load the program, once prepared. Raises Unsupported."""


def peer(program: str) -> Peer:
    """The module of a program that generates."""
    return import_module(f"resonance.bench.peers.{_MODULES.get(program, program)}")


def place(name: str) -> Path | None:
    """Where the configuration says that a program is; None: in its usual place."""
    places: dict[str, str] = json.loads(os.environ.get(_PLACES, "{}"))
    return Path(places[name]) if name in places else None


def environment(places: dict[str, str]) -> dict[str, str]:
    """The environment variables of a worker, by which `place` knows these places."""
    return {_PLACES: json.dumps(places)}
