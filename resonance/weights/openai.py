"""OpenAI's own GPT-2 layout: `hparams.json` beside a TensorFlow checkpoint.

Their matrices are convolution kernels of width 1, (1, in, out). Source: OpenAI's gpt-2/src/model.py.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from resonance.model_config import GPT2Config
from resonance.weights.state_dict import (
    Names,
    WeightsError,
    check_complete,
    check_head_count,
    is_projection,
    listed,
    make_config,
    read_settings,
    shapes,
)
from resonance.weights.tensor_bundle import Bundle, write_bundle

HPARAMS, POINTER, ENDING = "hparams.json", "checkpoint", ".index"

NAMES = Names(
    top={
        "token_embedding.weight": "model/wte",
        "position_embedding.weight": "model/wpe",
        "norm.weight": "model/ln_f/g",
        "norm.bias": "model/ln_f/b",
    },
    block="model/h{layer}/{tensor}",
    in_block={
        "norm1.weight": "ln_1/g",
        "norm1.bias": "ln_1/b",
        "attention.qkv.weight": "attn/c_attn/w",
        "attention.qkv.bias": "attn/c_attn/b",
        "attention.proj.weight": "attn/c_proj/w",
        "attention.proj.bias": "attn/c_proj/b",
        "norm2.weight": "ln_2/g",
        "norm2.bias": "ln_2/b",
        "feed_forward.fc.weight": "mlp/c_fc/w",
        "feed_forward.fc.bias": "mlp/c_fc/b",
        "feed_forward.proj.weight": "mlp/c_proj/w",
        "feed_forward.proj.bias": "mlp/c_proj/b",
    },
)
SIZES = {  # ours: theirs
    "vocab_size": "n_vocab",
    "context_length": "n_ctx",
    "n_embd": "n_embd",
    "n_head": "n_head",
    "n_layer": "n_layer",
}


def read_config(folder: Path, *, n_head: int | None = None) -> GPT2Config:
    """Read the configuration from `hparams.json`. Raises WeightsError when it is missing or makes no GPT-2."""
    config = make_config(read_settings(folder / HPARAMS), SIZES, folder / HPARAMS)
    check_head_count(n_head, config, folder)
    return config


def read(folder: Path, *, n_head: int | None = None) -> tuple[GPT2Config, dict[str, Tensor]]:
    """Read the model in a folder of OpenAI's files; tensors that are not transposed stay mapped from the file.

    Raises WeightsError, naming the file or the tensor, when anything is missing, damaged or of another shape.
    """
    config = read_config(folder, n_head=n_head)
    bundle = Bundle(_prefix(folder))
    state: dict[str, Tensor] = {}
    for name, shape in shapes(config).items():
        if is_projection(name):
            state[name] = bundle.tensor(NAMES(name), (1, *reversed(shape)))[0].T.contiguous()
        else:
            state[name] = bundle.tensor(NAMES(name), shape)
    if (beyond := NAMES(f"blocks.{config.n_layer}.norm1.weight")) in bundle:
        raise WeightsError(f"{folder} holds {beyond}, but its hparams.json says n_layer is {config.n_layer}.")
    return config, state


def check_shapes(folder: Path) -> GPT2Config:
    """Check every tensor's shape in the index and the shards' lengths, and return the configuration.

    Raises WeightsError as `read` does, but does not notice damaged tensors.
    """
    config = read_config(folder)
    bundle = Bundle(_prefix(folder))
    for name, shape in shapes(config).items():
        bundle.check(NAMES(name), (1, *reversed(shape)) if is_projection(name) else shape)
    return config


def write(folder: Path, config: GPT2Config, state: Mapping[str, Tensor], *, shards: int = 1) -> None:
    """Write OpenAI's files into a folder; tensors keep their dtypes.

    Raises WeightsError when the state is not the model's, or when its head is not tied, which the layout cannot hold.
    """
    if not config.tie_weights:
        raise WeightsError(
            "OpenAI's layout has no output head of its own, and this model's is not tied to its token embedding; "
            "write format=huggingface or format=gguf."
        )
    check_complete(state, config)
    hparams = {theirs: getattr(config, ours) for ours, theirs in SIZES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HPARAMS).write_text(json.dumps(hparams) + "\n")
    tensors = {
        NAMES(name): tensor.T.contiguous()[None] if is_projection(name) else tensor for name, tensor in state.items()
    }
    write_bundle(folder / "model.ckpt", tensors, shards)
    (folder / POINTER).write_text('model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n')


def _prefix(folder: Path) -> Path:
    """Return the path prefix of the checkpoint that the file `checkpoint` names, or of the only one."""
    pointer = folder / POINTER
    if pointer.is_file():
        named = re.search(r'^model_checkpoint_path:\s*"([^"]+)"', pointer.read_text(errors="replace"), re.MULTILINE)
        if named:
            return folder / Path(named[1]).name
    found = sorted(folder.glob(f"*{ENDING}"))
    if len(found) != 1:
        raise WeightsError(
            f"{folder} should hold one TensorFlow checkpoint (model.ckpt.index), but holds "
            f"{listed(path.name for path in found) or 'none'}."
        )
    return found[0].with_suffix("")
