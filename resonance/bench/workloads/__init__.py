"""What is measured: inference, serving and training.

Each of these modules has `prepare(program, folder, precision)`, which writes the files that a program reads, and the
context manager `load(program, folder, precision, batch, threads)`, which loads it and yields how it is measured. This
module imports none of them, as a program's memory is to be its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resonance.bench import peers

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

ENGINE_ONLY = ("mixed", "turns", "quoting")
MODULES = {  # by `what`, in the order of the table
    **dict.fromkeys(("decode", "prefill", *ENGINE_ONLY), "inference"),
    "serve": "serving",
    "train": "training",
}
PRECISIONS: "dict[str, dict[str, tuple[Precision, ...]]]" = {  # by module and program
    "inference": peers.PRECISIONS,
    "serving": {name: peers.PRECISIONS[name] for name in ("resonance", "llama.cpp")},
    "training": {"resonance": ("fp32", "bf16"), "transformers": ("fp32", "bf16")},
}


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement: `what` at a batch size."""

    what: str
    batch: int
    prompt_tokens: int
    new_tokens: int
    repeats: int


Measure = Callable[[Job], dict[str, object]]  # figures by name, `tokens_per_s` (of every repeat) among them


def takes_part(program: str, what: str, precision: "Precision") -> bool:
    """Whether a program runs a workload in a precision."""
    supported = PRECISIONS[MODULES[what]].get(program, ())
    return precision in supported and (program == "resonance" or what not in ENGINE_ONLY)
