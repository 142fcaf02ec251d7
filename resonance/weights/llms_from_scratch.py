"""The layout of *Build a Large Language Model (From Scratch)*: a `.pth` with the state dict of its `GPTModel`.

Query, key and value are separate matrices, a LayerNorm's weight is called `scale`, and the output head is never tied.
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from resonance.model_config import GPT2Config, ModelError
from resonance.weights.state_dict import Names, WeightsError, check, listed, number, read_settings, shapes

HEAD_WIDTH = 64  # of every released GPT-2; the file itself does not hold the head count
ENDINGS = (".pth", ".pt")
SETTINGS = "settings.json"

NAMES = Names(
    top={
        "token_embedding.weight": "tok_emb.weight",
        "position_embedding.weight": "pos_emb.weight",
        "norm.weight": "final_norm.scale",
        "norm.bias": "final_norm.shift",
        "head.weight": "out_head.weight",
    },
    block="trf_blocks.{layer}.{tensor}",
    in_block={
        "norm1.weight": "norm1.scale",
        "norm1.bias": "norm1.shift",
        "attention.qkv.weight": "att.W_{part}.weight",
        "attention.qkv.bias": "att.W_{part}.bias",
        "attention.proj.weight": "att.out_proj.weight",
        "attention.proj.bias": "att.out_proj.bias",
        "norm2.weight": "norm2.scale",
        "norm2.bias": "norm2.shift",
        "feed_forward.fc.weight": "ff.layers.0.weight",
        "feed_forward.fc.bias": "ff.layers.0.bias",
        "feed_forward.proj.weight": "ff.layers.2.weight",
        "feed_forward.proj.bias": "ff.layers.2.bias",
    },
)


def read_config(path: Path, *, n_head: int | None = None) -> GPT2Config:
    """Infer the configuration from the tensors' shapes. Raises WeightsError, naming the file or the tensor."""
    return _open(path, n_head)[1]


def read(path: Path, *, n_head: int | None = None) -> tuple[GPT2Config, dict[str, Tensor]]:
    """Read the model in a `.pth` file, or in a folder that holds one (and its `settings.json`).

    Query, key and value are joined; missing query, key and value biases (`qkv_bias=False`) become zeros; a head
    equal to the token embedding is tied. The head count is `n_head`, else the settings', else width / 64.
    Raises WeightsError, naming the file or the tensor.
    """
    file, config, tensors = _open(path, n_head)
    state: dict[str, Tensor] = {}
    for name, shape in shapes(config).items():
        if ".qkv." in name:
            state[name] = _qkv(tensors, NAMES(name), shape, file)
        else:
            state[name] = _take(tensors, NAMES(name), shape, file)
    return config, state


def check_shapes(path: Path) -> GPT2Config:
    """Check that every tensor is there with its shape, and return the configuration. Raises WeightsError like `read`.

    The tensors are mapped but not read, except the head and the token embedding, which may be equal.
    """
    file, config, tensors = _open(path, None)
    for name, shape in shapes(config).items():
        if ".qkv." in name:
            for part, third in _thirds(tensors, NAMES(name), shape):
                _take(tensors, part, third, file)
        else:
            _take(tensors, NAMES(name), shape, file)
    return config


def find(folder: Path) -> Path:
    """Return the one `.pth` of a folder. Raises WeightsError where there are several or none."""
    found = sorted(path for path in folder.iterdir() if path.suffix in ENDINGS)
    if len(found) != 1:
        names = listed(path.name for path in found) or "none"
        raise WeightsError(f"{folder} should hold one .pth file, but holds {names}; name the file itself.")
    return found[0]


def _open(path: Path, n_head: int | None) -> tuple[Path, GPT2Config, dict[str, Tensor]]:
    file, settings_file = (find(path), path / SETTINGS) if path.is_dir() else (path, None)
    settings = read_settings(settings_file) if settings_file and settings_file.is_file() else {}
    tensors = _load(file)
    n_head = n_head or int(number(settings, "n_heads", 0, settings_file)) or None
    dropout = number(settings, "drop_rate", GPT2Config().dropout, settings_file)
    return file, _config(tensors, file, n_head, dropout), tensors


def _load(file: Path) -> dict[str, Tensor]:
    try:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            content = torch.load(file, map_location="cpu", weights_only=True)  # torch's older format
    except FileNotFoundError:
        raise WeightsError(f"{file} does not exist.") from None
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+) was not", str(error))
        why = (
            f"holds more than tensors ({named[1]}, whose code it would run)" if named else "is damaged or no state dict"
        )
        raise WeightsError(f"{file} {why}, so it is not opened; save the model's state_dict() alone.") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{file} is damaged, cut short, or not a file of torch.save ({reason}).") from None
    if isinstance(content, dict) and isinstance(content.get("model_state_dict"), dict):
        content = content["model_state_dict"]  # saved with an optimiser, as in the book's chapter 5
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{file} holds no state dict (tensors by name); save the model's state_dict() alone.")
    return content


def _config(tensors: Mapping[str, Tensor], file: Path, n_head: int | None, dropout: float) -> GPT2Config:
    vocab_size, width = _matrix(tensors, "tok_emb.weight", file)
    context_length, _ = _matrix(tensors, "pos_emb.weight", file)
    layers = {name.split(".")[1] for name in tensors if name.startswith("trf_blocks.")}
    if n_head is None and width % HEAD_WIDTH:
        raise WeightsError(
            f"{file} is {width} wide, which is not a multiple of {HEAD_WIDTH}, so its head count is unknown; "
            "give n_head."
        )
    head, embedding = tensors.get("out_head.weight"), tensors["tok_emb.weight"]
    try:
        return GPT2Config(
            vocab_size=vocab_size,
            context_length=context_length,
            n_layer=len(layers),
            n_head=n_head or width // HEAD_WIDTH,
            n_embd=width,
            dropout=dropout,
            tie_weights=head is not None and head.shape == embedding.shape and head.equal(embedding),
        )
    except ModelError as error:
        raise WeightsError(f"{file}: {error}") from None


def _matrix(tensors: Mapping[str, Tensor], name: str, file: Path) -> tuple[int, int]:
    if name not in tensors:
        raise WeightsError(f"{name} is missing from {file}, which holds {listed(tensors) or 'nothing'}.")
    if tensors[name].dim() != 2:
        raise WeightsError(f"{name} in {file} has the shape {tuple(tensors[name].shape)}, not that of a matrix.")
    rows, columns = tensors[name].shape
    return rows, columns


def _qkv(tensors: Mapping[str, Tensor], pattern: str, shape: tuple[int, ...], file: Path) -> Tensor:
    stored = _thirds(tensors, pattern, shape)
    if not stored:
        return torch.zeros(shape, dtype=tensors["tok_emb.weight"].dtype)
    return torch.cat([_take(tensors, name, third, file) for name, third in stored])


def _thirds(tensors: Mapping[str, Tensor], pattern: str, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """Return the names and shapes of query, key and value; none where they have no biases."""
    names = [pattern.format(part=part) for part in ("query", "key", "value")]
    if pattern.endswith("bias") and not any(name in tensors for name in names):
        return []
    return [(name, (shape[0] // 3, *shape[1:])) for name in names]


def _take(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...], file: Path) -> Tensor:
    if name not in tensors:
        raise WeightsError(f"{name} is missing from {file}, which holds {listed(tensors)}.")
    check(name, tensors[name], shape, file)
    return tensors[name]
