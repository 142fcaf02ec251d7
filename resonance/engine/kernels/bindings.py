"""Calls the C++ kernels: a model runner that fills the structs of csrc/abi.h."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.kernels.build import KernelsUnavailable, interface, library
from resonance.engine.kernels.packing import pack, packed_bytes_bound, pad_to_panel
from resonance.engine.kv_cache import KVCache
from resonance.engine.memory import Arena, MappedFiles, trim_malloc
from resonance.engine.quantization import Precision
from resonance.engine.sequence import Chunk
from resonance.model import GPT2

PRECISIONS: dict[Precision, int] = {"fp32": 0, "bf16": 1, "int8": 2, "int4": 3}  # gemm.h's enum Precision
HEAD_DIMS = (16, 32, 64, 128)


class KernelRunner:
    """A ModelRunner on its own packed copy of the weights; the model may be freed afterwards.

    Raises KernelsUnavailable when the kernels are, or do not support the model's shape or device.
    """

    path = "C++ kernels"

    def __init__(self, model: GPT2, cache: KVCache, precision: Precision, *, target: str = "native") -> None:
        config = model.config
        if model.head_weight.device.type != "cpu":
            raise KernelsUnavailable("the C++ kernels compute on the CPU only")
        if config.head_dim not in HEAD_DIMS:
            raise KernelsUnavailable(f"the C++ kernels support heads of width {HEAD_DIMS}, not of {config.head_dim}")
        self._library, self._ffi = library(target), interface()
        self._cache = cache
        self._config = config
        self._padded_vocab_size = pad_to_panel(config.vocab_size)
        self._arena = Arena(packed_bytes_bound(config))  # all weights that the kernels read
        self._model = self._create_model(model, precision)

    def __del__(self) -> None:
        if hasattr(self, "_model"):
            self._library.resonance_free_model(self._model)

    @property
    def nbytes(self) -> int:
        """The size of the packed weights."""
        return self._arena.nbytes

    def hidden(self, chunks: Sequence[Chunk]) -> Tensor:
        """See ModelRunner."""
        chunk_rows: list[tuple[int, int, int, int]] = []
        hidden_rows: list[int] = []
        rows = 0
        for chunk in chunks:
            chunk_rows.append((chunk.sequence.slot, chunk.start, rows, len(chunk.token_ids)))
            rows += len(chunk.token_ids)
            hidden_rows += range(rows - chunk.hidden_count, rows)
        token_ids = torch.tensor([token_id for chunk in chunks for token_id in chunk.token_ids])
        hidden = torch.empty(len(hidden_rows), self._config.n_embd)
        call = {
            "chunks": self._ffi.new("ChunkRows[]", chunk_rows),
            "token_ids": self._address(token_ids),
            "keys": self._address(self._cache.keys),
            "values": self._address(self._cache.values),
            "hidden_rows": self._ffi.new("int32_t[]", hidden_rows),
            "hidden": self._address(hidden),
            "n_chunks": len(chunk_rows),
            "rows": rows,
            "n_hidden": len(hidden_rows),
            "threads": torch.get_num_threads(),
        }
        self._library.resonance_hidden(self._model, self._ffi.new("HiddenCall *", call))
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """See ModelRunner."""
        hidden = hidden.contiguous()
        logits = torch.empty(len(hidden), self._padded_vocab_size)
        call = (self._address(hidden), self._address(logits), len(hidden), torch.get_num_threads())
        self._library.resonance_logits(self._model, self._ffi.new("LogitsCall *", call))
        return logits[:, : self._config.vocab_size]

    def _address(self, tensor: Tensor) -> Any:
        return self._ffi.cast("void *", tensor.data_ptr())

    def _create_model(self, model: GPT2, precision: Precision) -> Any:
        state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        config = model.config
        mapped = MappedFiles()

        def copy(tensor: Tensor) -> Any:
            return self._address(self._arena.empty(tensor.shape, torch.float32).copy_(tensor))

        def matrix(name: str) -> dict[str, Any]:
            data, scale = pack(state[f"{name}.weight"], precision, self._arena, mapped)
            weights = {"data": self._address(data)} | ({} if scale is None else {"scale": self._address(scale)})
            if (bias := state.get(f"{name}.bias")) is not None:
                weights["bias"] = copy(F.pad(bias.float(), (0, pad_to_panel(len(bias)) - len(bias))))
            return weights

        def norm(name: str) -> tuple[Any, Any]:
            return copy(state[f"{name}.weight"]), copy(state[f"{name}.bias"])

        token_embedding = matrix("token_embedding")
        positions = state["position_embedding.weight"].float()
        weights = {
            "token_embedding": token_embedding,
            "head": token_embedding if config.tie_weights else matrix("head"),
            "position_embedding": copy(F.pad(positions, (0, pad_to_panel(config.n_embd) - config.n_embd))),
            "norm": norm("norm"),
            **{name: getattr(config, name) for name in ("n_layer", "n_head", "n_embd", "context_length")},
            "padded_vocab_size": self._padded_vocab_size,
            "precision": PRECISIONS[precision],
            "bf16_cache": int(self._cache.keys.dtype == torch.bfloat16),
            "layer_norm_epsilon": config.layer_norm_epsilon,
        }
        layers = [
            {
                "norm1": norm(f"{block}.norm1"),
                "norm2": norm(f"{block}.norm2"),
                "qkv": matrix(f"{block}.attention.qkv"),
                "attention_proj": matrix(f"{block}.attention.proj"),
                "fc": matrix(f"{block}.feed_forward.fc"),
                "feed_forward_proj": matrix(f"{block}.feed_forward.proj"),
            }
            for block in (f"blocks.{i}" for i in range(config.n_layer))
        ]
        trim_malloc()
        weights["layers"] = self._ffi.new("LayerWeights[]", layers)
        return self._library.resonance_create_model(self._ffi.new("ModelWeights *", weights))
