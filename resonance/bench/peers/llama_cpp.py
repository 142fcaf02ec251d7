"""llama.cpp by its C API, with several sequences in one batch as its server has them."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import llama_cpp
import numpy as np

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

TYPES: "dict[Precision, str]" = {"fp32": "f32", "bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}
CONTEXT = 1024


class LlamaCpp:
    """A context with a KV cache for `batch` sequences."""

    def __init__(self, path: Path, batch: int, threads: int) -> None:
        @llama_cpp.llama_log_callback
        def silent(level: int, text: bytes, data: ctypes.c_void_p) -> None: ...

        self._silent = silent
        llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        loading = loading_params()
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), loading)
        if model is None:
            raise RuntimeError(f"llama.cpp does not load {path}.")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = CONTEXT * batch
        params.n_batch = CONTEXT * batch
        params.n_seq_max = batch
        params.n_threads = params.n_threads_batch = threads
        context = llama_cpp.llama_init_from_model(model, params)
        if context is None:
            raise RuntimeError(f"llama.cpp has no memory for {batch} sequences.")
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        vocab = llama_cpp.llama_model_get_vocab(model)
        self.needed_bytes = None
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(vocab) if vocab else 0
        self._batch = llama_cpp.llama_batch_init(CONTEXT * batch, 0, 1)

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """See Program."""
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        tokens = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        next_tokens = self._decode(tokens)
        for step in range(new_tokens - 1):
            next_tokens = self._decode(
                [(token, len(prompts[sequence]) + step, sequence, True) for sequence, token in enumerate(next_tokens)]
            )

    def _decode(self, tokens: Sequence[tuple[int, int, int, bool]]) -> list[int]:
        # Takes (id, position, sequence, whether to return logits) of each token; returns the likeliest next ids.
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, (token, position, sequence, needs_logits) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, needs_logits
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        return [
            int(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, i), (self.vocab_size,)).argmax())
            for i, (_, _, _, needs_logits) in enumerate(tokens)
            if needs_logits
        ]


def prepare(folder: Path, precision: "Precision") -> None:
    """See Peer."""
    from resonance.checkpoint import Checkpoint  # here, because they import torch, which measuring does not need
    from resonance.cli.export import export

    if not exported(folder, precision).exists():
        export(Checkpoint.open(folder), "gguf", exported(folder, precision), kind=TYPES[precision])


def load(folder: Path, precision: "Precision", batch: int, threads: int) -> LlamaCpp:
    """See Peer."""
    return LlamaCpp(exported(folder, precision), batch, threads)


def exported(folder: Path, precision: "Precision") -> Path:
    """The GGUF file that `prepare` writes."""
    return folder.with_name(f"{folder.name}-{TYPES[precision]}.gguf")


def loading_params() -> llama_cpp.llama_model_params:
    """llama.cpp's defaults, without repacking for AMX.

    Repacked 8-bit and 4-bit weights end in a segmentation fault at the first decode (0.3.36).
    """
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = not _has_amx()
    return params


def _has_amx() -> bool:
    return b"AMX_INT8 = 1" in llama_cpp.llama_print_system_info()  # as the library was built
