"""A model in packed weights, computed by the C++ kernels: one call a step."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.kernels import KernelsMissing, library
from resonance.engine.kernels.packing import pack, room, whole
from resonance.engine.kv_cache import SlotCache
from resonance.engine.memory import Arena, MappedFiles, give_back_freed
from resonance.engine.quantization import Precision
from resonance.engine.sequence import Chunk
from resonance.model import GPT2

KINDS: dict[Precision, int] = {"fp32": 0, "bf16": 1, "int8": 2, "int4": 3}
HEAD_DIMS = (16, 32, 64, 128)


class KernelRunner:
    """Holds its own copy of the weights, packed; the model may be let go of afterwards.

    Raises KernelsMissing where the kernels cannot be had or do not serve the model's shape or device.
    """

    path = "C++ kernels"

    def __init__(self, model: GPT2, cache: SlotCache, precision: Precision, *, target: str = "native") -> None:
        config = model.config
        if model.head_weight.device.type != "cpu":
            raise KernelsMissing("the C++ kernels compute on the CPU only")
        if config.head_dim not in HEAD_DIMS:
            raise KernelsMissing(f"the C++ kernels know heads of width {HEAD_DIMS}, not of {config.head_dim}")
        self._library = library(target)
        self._cache = cache
        self._config = config
        self._vocab = whole(config.vocab_size)
        self._arena = Arena(room(config))  # holds everything that the kernels point to
        sizes = (
            config.n_embd, whole(config.n_embd), config.n_head, config.context_length, config.n_layer,
            KINDS[precision], int(cache.keys.dtype == torch.bfloat16),
        )  # fmt: skip
        addresses = self._pack(model, precision)
        self._model = self._library.resonance_model(
            (ctypes.c_int64 * len(sizes))(*sizes),
            config.layer_norm_epsilon,
            self._vocab,
            (ctypes.c_void_p * len(addresses))(*addresses),
        )

    def __del__(self) -> None:
        if hasattr(self, "_model"):
            self._library.resonance_free(self._model)

    @property
    def nbytes(self) -> int:
        """The size of the packed weights."""
        return self._arena.nbytes

    def hidden(self, chunks: Sequence[Chunk]) -> Tensor:
        """See Runner."""
        rows = [token_id for chunk in chunks for token_id in chunk.token_ids]
        token_ids = torch.tensor(rows)
        runs: list[int] = []
        wanted: list[int] = []
        row = 0
        for chunk in chunks:
            count = len(chunk.token_ids)
            runs += (chunk.text.slot, chunk.start, row, count)
            row += count
            wanted += range(row - chunk.wanted, row)
        hidden = torch.empty(len(wanted), self._config.n_embd)
        self._library.resonance_hidden(
            self._model,
            (ctypes.c_int32 * len(runs))(*runs),
            len(chunks),
            token_ids.data_ptr(),
            len(rows),
            self._cache.keys.data_ptr(),
            self._cache.values.data_ptr(),
            (ctypes.c_int32 * len(wanted))(*wanted),
            len(wanted),
            hidden.data_ptr(),
            torch.get_num_threads(),
        )
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """See Runner."""
        hidden = hidden.contiguous()
        logits = torch.empty(len(hidden), self._vocab)
        threads = torch.get_num_threads()
        self._library.resonance_logits(self._model, hidden.data_ptr(), len(hidden), logits.data_ptr(), threads)
        return logits[:, : self._config.vocab_size]

    def _pack(self, model: GPT2, precision: Precision) -> list[int]:
        # Addresses in the order in which gpt2.cpp takes them.
        state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        width = whole(model.config.n_embd)
        mapped = MappedFiles()
        addresses: list[int] = []

        def keep(tensor: Tensor | None) -> None:
            addresses.append(0 if tensor is None else tensor.data_ptr())

        def copy(tensor: Tensor) -> None:
            keep(self._arena.empty(tensor.shape, torch.float32).copy_(tensor))

        def matrix(name: str) -> None:
            for tensor in pack(state[f"{name}.weight"], precision, self._arena, mapped):
                keep(tensor)

        def linear(name: str) -> None:
            matrix(name)
            bias = state[f"{name}.bias"].float()
            copy(F.pad(bias, (0, whole(len(bias)) - len(bias))))

        def norm(name: str) -> None:
            copy(state[f"{name}.weight"])
            copy(state[f"{name}.bias"])

        matrix("token_embedding")
        if model.config.tie_weights:
            addresses.extend(addresses[:2])
        else:
            matrix("head")
        positions = state["position_embedding.weight"].float()
        copy(F.pad(positions, (0, width - positions.shape[1])))
        norm("norm")
        for block in (f"blocks.{i}" for i in range(model.config.n_layer)):
            norm(f"{block}.norm1")
            norm(f"{block}.norm2")
            for name in ("attention.qkv", "attention.proj", "feed_forward.fc", "feed_forward.proj"):
                linear(f"{block}.{name}")
        give_back_freed()
        return addresses
