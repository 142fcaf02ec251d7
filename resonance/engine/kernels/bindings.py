"""Calls the C++ kernels: the structs that both sides share, and the model runner that fills them.

csrc/abi.h declares the same structs. A library with another ABI_VERSION or other struct sizes is refused.
"""

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int32, c_int64, c_uint32, c_void_p
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.kernels.build import KernelsUnavailable, load_kernels
from resonance.engine.kernels.packing import pack, packed_bytes_bound, pad_to_panel
from resonance.engine.kv_cache import KVCache
from resonance.engine.memory import Arena, MappedFiles, trim_malloc
from resonance.engine.quantization import Precision
from resonance.engine.sequence import Chunk
from resonance.model import GPT2

ABI_VERSION = 1
PRECISIONS: dict[Precision, int] = {"fp32": 0, "bf16": 1, "int8": 2, "int4": 3}
HEAD_DIMS = (16, 32, 64, 128)


class MatrixWeights(ctypes.Structure):
    """A packed matrix; `scale` is int8's, `bias` is null for the embedding and the head."""

    _fields_ = (("data", c_void_p), ("scale", c_void_p), ("bias", c_void_p))


class LayerNormWeights(ctypes.Structure):
    """A LayerNorm's fp32 weight and bias."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p))


class LayerWeights(ctypes.Structure):
    """A transformer block."""

    _fields_ = (
        *((name, LayerNormWeights) for name in ("norm1", "norm2")),
        *((name, MatrixWeights) for name in ("qkv", "attention_proj", "fc", "feed_forward_proj")),
    )


class ModelWeights(ctypes.Structure):
    """A model's shape and weights; the caller keeps the memory."""

    _fields_ = (
        ("token_embedding", MatrixWeights),
        ("head", MatrixWeights),
        ("position_embedding", c_void_p),
        ("norm", LayerNormWeights),
        ("layers", ctypes.POINTER(LayerWeights)),
        *((name, c_int32) for name in ("n_layer", "n_head", "n_embd", "context_length", "padded_vocab_size")),
        ("precision", c_int32),
        ("bf16_cache", c_int32),
        ("layer_norm_epsilon", c_float),
    )


class ChunkRows(ctypes.Structure):
    """Rows [row, row + count) of a step are tokens of a slot at positions from `position` on."""

    _fields_ = tuple((name, c_int32) for name in ("slot", "position", "row", "count"))


class HiddenCall(ctypes.Structure):
    """A step: token ids (rows,) in, hidden states (n_hidden, n_embd) of `hidden_rows` out."""

    _fields_ = (
        ("chunks", ctypes.POINTER(ChunkRows)),
        ("token_ids", c_void_p),
        ("keys", c_void_p),
        ("values", c_void_p),
        ("hidden_rows", ctypes.POINTER(c_int32)),
        ("hidden", c_void_p),
        *((name, c_int32) for name in ("n_chunks", "rows", "n_hidden", "threads")),
    )


class LogitsCall(ctypes.Structure):
    """The head: hidden states (rows, n_embd) in, logits (rows, padded_vocab_size) out."""

    _fields_ = (("hidden", c_void_p), ("logits", c_void_p), ("rows", c_int32), ("threads", c_int32))


@cache
def library(target: str = "native") -> ctypes.CDLL:
    """Load the kernels and declare their functions. Raises KernelsUnavailable."""
    loaded = load_kernels(target)
    sizes = [ctypes.sizeof(struct) for struct in (ModelWeights, ChunkRows, HiddenCall, LogitsCall)]
    loaded.resonance_abi_matches.argtypes = [c_int32, *(c_int32 for _ in sizes)]
    if not loaded.resonance_abi_matches(ABI_VERSION, *sizes):
        raise KernelsUnavailable("csrc/abi.h and bindings.py declare different structs")
    loaded.resonance_create_model.argtypes = [ctypes.POINTER(ModelWeights)]
    loaded.resonance_create_model.restype = c_void_p
    loaded.resonance_free_model.argtypes = [c_void_p]
    loaded.resonance_free_model.restype = None
    loaded.resonance_hidden.argtypes = [c_void_p, ctypes.POINTER(HiddenCall)]
    loaded.resonance_hidden.restype = None
    loaded.resonance_logits.argtypes = [c_void_p, ctypes.POINTER(LogitsCall)]
    loaded.resonance_logits.restype = None
    loaded.resonance_read.argtypes = [c_void_p, c_int64, c_int32]
    loaded.resonance_read.restype = c_uint32
    return loaded


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
            raise KernelsUnavailable(f"the C++ kernels know heads of width {HEAD_DIMS}, not of {config.head_dim}")
        self._library = library(target)
        self._cache = cache
        self._config = config
        self._padded_vocab_size = pad_to_panel(config.vocab_size)
        self._arena = Arena(packed_bytes_bound(config))  # all weights that the kernels read
        self._model = self._library.resonance_create_model(self._pack(model, precision))

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
        call = HiddenCall(
            chunks=(ChunkRows * len(chunk_rows))(*chunk_rows),
            token_ids=token_ids.data_ptr(),
            keys=self._cache.keys.data_ptr(),
            values=self._cache.values.data_ptr(),
            hidden_rows=(c_int32 * len(hidden_rows))(*hidden_rows),
            hidden=hidden.data_ptr(),
            n_chunks=len(chunk_rows),
            rows=rows,
            n_hidden=len(hidden_rows),
            threads=torch.get_num_threads(),
        )
        self._library.resonance_hidden(self._model, call)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """See ModelRunner."""
        hidden = hidden.contiguous()
        logits = torch.empty(len(hidden), self._padded_vocab_size)
        call = LogitsCall(hidden.data_ptr(), logits.data_ptr(), len(hidden), torch.get_num_threads())
        self._library.resonance_logits(self._model, call)
        return logits[:, : self._config.vocab_size]

    def _pack(self, model: GPT2, precision: Precision) -> ModelWeights:
        state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        config = model.config
        mapped = MappedFiles()

        def copy(tensor: Tensor) -> int:
            return self._arena.empty(tensor.shape, torch.float32).copy_(tensor).data_ptr()

        def matrix(name: str) -> MatrixWeights:
            data, scale = pack(state[f"{name}.weight"], precision, self._arena, mapped)
            bias = state.get(f"{name}.bias")
            padded = None if bias is None else copy(F.pad(bias.float(), (0, pad_to_panel(len(bias)) - len(bias))))
            return MatrixWeights(data.data_ptr(), None if scale is None else scale.data_ptr(), padded)

        def norm(name: str) -> LayerNormWeights:
            return LayerNormWeights(copy(state[f"{name}.weight"]), copy(state[f"{name}.bias"]))

        token_embedding = matrix("token_embedding")
        positions = state["position_embedding.weight"].float()
        weights = ModelWeights(
            token_embedding=token_embedding,
            head=token_embedding if config.tie_weights else matrix("head"),
            position_embedding=copy(F.pad(positions, (0, pad_to_panel(config.n_embd) - config.n_embd))),
            norm=norm("norm"),
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            context_length=config.context_length,
            padded_vocab_size=self._padded_vocab_size,
            precision=PRECISIONS[precision],
            bf16_cache=int(self._cache.keys.dtype == torch.bfloat16),
            layer_norm_epsilon=config.layer_norm_epsilon,
        )
        layers = [
            LayerWeights(
                norm1=norm(f"{block}.norm1"),
                norm2=norm(f"{block}.norm2"),
                qkv=matrix(f"{block}.attention.qkv"),
                attention_proj=matrix(f"{block}.attention.proj"),
                fc=matrix(f"{block}.feed_forward.fc"),
                feed_forward_proj=matrix(f"{block}.feed_forward.proj"),
            )
            for block in (f"blocks.{i}" for i in range(config.n_layer))
        ]
        weights.layers = (LayerWeights * len(layers))(*layers)
        trim_malloc()
        return weights
