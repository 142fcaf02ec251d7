"""What is measured: inference, serving and training.

Each of these modules has `prepare(program, folder, precision)`, which writes the files that a program reads, and the
context manager `load(program, folder, precision, batch, threads)`, which loads it and yields how it is measured. This
module imports none of them, as a program's memory is to be its own.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from resonance.bench import peers
from resonance.bench.job import Job

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

ENGINE_ONLY = ("mixed", "turns", "quoting")
MODULES = {  # by `what`, in the order of the table
    **dict.fromkeys(("decode", "growth", "prefill", *ENGINE_ONLY), "inference"),
    "serve": "serving",
    **dict.fromkeys(("train", "dense"), "training"),
}
TRAINED: "tuple[Precision, ...]" = ("fp32", "bf16")
PRECISIONS: "dict[str, dict[str, tuple[Precision, ...]]]" = {  # by `what` and program
    **dict.fromkeys(("decode", "growth", "prefill"), peers.PRECISIONS),
    **{what: {"resonance": peers.PRECISIONS["resonance"]} for what in ENGINE_ONLY},
    "serve": {name: peers.PRECISIONS[name] for name in ("resonance", "llama.cpp")},
    "train": dict.fromkeys(("resonance", "transformers", "transformers packed", "trl", "trl packed"), TRAINED),
    "dense": dict.fromkeys(("resonance", "transformers", "nanogpt"), TRAINED),
}


Measure = Callable[[Job], dict[str, object]]  # figures by name, `tokens_per_s` (of every repeat) among them


def takes_part(program: str, what: str, precision: "Precision") -> bool:
    """Whether a program runs a workload in a precision."""
    return precision in PRECISIONS[what].get(program, ())
