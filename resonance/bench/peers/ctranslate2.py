"""CTranslate2, which converts the checkpoint to a format of its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ctranslate2

from resonance.bench.peers import Unsupported

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

TYPES: "dict[Precision, str]" = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}


class CTranslate2:
    """A Generator, which takes tokens as strings."""

    def __init__(self, generator: ctranslate2.Generator, tokens: list[str]) -> None:
        self._generator, self._tokens = generator, tokens
        self.vocab_size = len(tokens)
        self.needed_bytes = None

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """See Program."""
        self._generator.generate_batch(
            [[self._tokens[i] for i in prompt] for prompt in prompts],
            max_length=new_tokens,
            min_length=new_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
        )


def prepare(folder: Path, precision: "Precision") -> None:
    """See Peer."""
    from ctranslate2.converters import TransformersConverter  # here, because measuring does not need it

    if TYPES.get(precision) not in ctranslate2.get_supported_compute_types("cpu"):
        raise Unsupported(f"no {precision} on this processor")
    if not _converted(folder, precision).exists():
        TransformersConverter(str(folder)).convert(str(_converted(folder, precision)), quantization=TYPES[precision])


def load(folder: Path, precision: "Precision", batch: int, threads: int) -> CTranslate2:
    """See Peer."""
    converted = _converted(folder, precision)
    generator = ctranslate2.Generator(
        str(converted), device="cpu", compute_type=TYPES[precision], intra_threads=threads, inter_threads=1
    )
    vocabulary = (converted / "vocabulary.json").read_text(encoding="utf-8")
    return CTranslate2(generator, json.loads(vocabulary))


def _converted(folder: Path, precision: "Precision") -> Path:
    return folder.with_name(f"{folder.name}-ct2-{precision}")
