"""peft's layout for low-rank adapters over GPT-2: `adapter_config.json` beside `adapter_model.safetensors`.

It knows files and names; `resonance.lora` knows the computation. Source: peft's utils/save_and_load.py, tuners/lora
and tuners/trainable_tokens.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from resonance.atomic_files import write_atomically, write_text_atomically
from resonance.weights.huggingface import NAMES
from resonance.weights.safetensors_file import write as write_safetensors
from resonance.weights.state_dict import FLOATS, WeightsError, listed, number, read_settings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
SUPPORTED: dict[str, tuple[object, ...]] = {  # keys that change the computation, and the values of LoRA and DoRA
    "peft_type": ("LORA",),
    "bias": (None, "none"),
    "use_dora": (None, False, True),
    "lora_bias": (None, False),
    "use_bdlora": (None, False),
    "kasa_config": (None,),
    "arrow_config": (None,),
    "alora_invocation_tokens": (None,),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "layer_replication": (None,),
    "modules_to_save": (None, []),
    "init_lora_weights": (None, True, False, "gaussian"),  # other initialisations change the base weights
}
PREFIX = "base_model.model."
MATRIX = re.compile(r"transformer\.h\.(\d+)\.(.+)\.lora_(A\.weight|B\.weight|magnitude_vector)")
KINDS = {"lora_a": "A.weight", "lora_b": "B.weight", "lora_magnitude": "magnitude_vector"}  # ours: theirs
LAYERS = {theirs: ours for ours, theirs in NAMES.in_block.items() if theirs.endswith(".weight")}
ROWS = {  # the added tokens' rows, ours: theirs
    "token_embedding.new": "transformer.wte.token_adapter.trainable_tokens_delta",
    "head.new": "lm_head.token_adapter.trainable_tokens_delta",
}


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """The content of the two files.

    `tensors` have our names: `blocks.0.attention.qkv.lora_a` (rank, in), `.lora_b` (out, rank), with DoRA
    `.lora_magnitude` (out,), and, where tokens were `added` to the base's vocabulary, their rows
    `token_embedding.new`, `head.new` (added, n_embd).
    """

    rank: int
    alpha: float
    dropout: float
    rslora: bool
    tensors: Mapping[str, Tensor]
    dora: bool = False
    base_dtype: str = "fp32"  # in which the base was held while the adapter trained; peft's own files have none
    added: range = range(0)  # the new tokens' ids
    base: str | None = None  # the name or path of the base weights
    base_crc32: str | None = None  # of the base weights; peft's own files have none


def write(folder: Path, adapter: StoredAdapter) -> None:
    """Write both files into an existing folder, each whole or not at all."""
    tensors = {PREFIX + _stored(name): tensor.contiguous() for name, tensor in adapter.tensors.items()}
    modules = {match[2]: None for name in tensors if (match := MATRIX.search(name))}  # ordered, without repeats
    settings: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "use_rslora": adapter.rslora,
        "use_dora": adapter.dora,
        "target_modules": list(modules),
        "fan_in_fan_out": True,  # Hugging Face's GPT-2 has (in, out) matrices
        "bias": "none",
        "inference_mode": True,
    }
    if adapter.added:
        ids = list(adapter.added)
        settings["trainable_token_indices"] = {"wte": ids, "lm_head": ids} if "head.new" in adapter.tensors else ids
    stamp = {"format": "pt", "base_dtype": adapter.base_dtype}
    stamp |= {"base_crc32": adapter.base_crc32} if adapter.base_crc32 else {}
    write_atomically(folder / WEIGHTS, lambda path: write_safetensors(tensors, path, stamp))
    write_text_atomically(folder / CONFIG, json.dumps(settings, indent=2) + "\n")


def read(folder: Path) -> StoredAdapter:
    """Read an adapter by `write` or peft. Raises WeightsError for missing, damaged or unsupported files."""
    where = folder / CONFIG
    settings = read_settings(where)
    for key, allowed in SUPPORTED.items():
        if settings.get(key) not in allowed:
            raise WeightsError(f"{where} has {key}={settings.get(key)!r}, which is not supported.")
    tensors, stamp = _read_tensors(folder / WEIGHTS)
    return StoredAdapter(
        rank=int(number(settings, "r", 8, where)),
        alpha=number(settings, "lora_alpha", 8, where),
        dropout=number(settings, "lora_dropout", 0.0, where),
        rslora=bool(settings.get("use_rslora")),
        dora=bool(settings.get("use_dora")),
        base_dtype=stamp.get("base_dtype", "fp32"),
        tensors=tensors,
        added=_added(settings, where),
        base=settings.get("base_model_name_or_path"),
        base_crc32=stamp.get("base_crc32"),
    )


def _stored(name: str) -> str:
    """`blocks.0.attention.qkv.lora_a` -> `transformer.h.0.attn.c_attn.lora_A.weight`."""
    if name in ROWS:
        return ROWS[name]
    layer, _, kind = name.rpartition(".")
    return f"{NAMES(f'{layer}.weight').removesuffix('weight')}lora_{KINDS[kind]}"


def _ours(stored: str) -> str | None:
    """The inverse of `_stored`; None for a name that no adapter over GPT-2 has."""
    for ours, theirs in ROWS.items():
        if stored == theirs:
            return ours
    match = MATRIX.fullmatch(stored)
    layer = match and LAYERS.get(f"{match[2]}.weight")
    if not match or not layer:
        return None
    kind = next(ours for ours, theirs in KINDS.items() if theirs == match[3])
    return f"blocks.{match[1]}.{layer.removesuffix('weight')}{kind}"


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # an open file cannot be iterated over
            for stored in names:
                name = _ours(stored.removeprefix(PREFIX))
                tensor = file.get_tensor(stored)
                if name is None or tensor.dtype not in FLOATS:
                    raise WeightsError(f"{path} holds {stored} of {tensor.dtype}, which no adapter over a GPT-2 has.")
                tensors[name] = tensor
            return tensors, file.metadata() or {}
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing; it holds the adapter's weights.") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or cut short ({error}).") from None


def _added(settings: Mapping[str, Any], where: Path) -> range:
    """Return the ids of the added tokens, which must be consecutive."""
    ids = settings.get("trainable_token_indices") or []
    lists = list(ids.values()) if isinstance(ids, dict) else [ids]
    added = range(lists[0][0], lists[0][-1] + 1) if lists[0] else range(0)
    if any(list(added) != other for other in lists):
        raise WeightsError(f"{where} trains the tokens {listed(lists[0])}; only rows at the vocabulary's end can be.")
    return added
