"""Weights in and out: a GPT-2 from whichever layout is on disk, under the names of `resonance.model`."""

import os
from pathlib import Path

from torch import Tensor

from resonance.model import GPT2Config
from resonance.weights import book, huggingface, openai
from resonance.weights.errors import WeightsError
from resonance.weights.names import listed

__all__ = ["WeightsError", "home", "read", "resolve"]

NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
WANTED = (
    "a folder with config.json and model.safetensors (Hugging Face), a folder with hparams.json and "
    "model.ckpt.* (OpenAI's TensorFlow files), or a .pth state dict (Build a LLM From Scratch)"
)


def read(path: str | Path, *, n_head: int | None = None) -> tuple[GPT2Config, dict[str, Tensor]]:
    """The configuration and the tensors of the model at a path, told apart by what is there.

    Matrices are (out, in); types are those of the file; tensors may be mapped from it, and changing them never
    changes the file. `n_head` is for the book's layout, which does not hold it. Raises WeightsError.
    """
    path = Path(path)
    if path.is_dir():
        held = {entry.name for entry in path.iterdir()}
        if "config.json" in held and held & {huggingface.WEIGHTS, huggingface.INDEX}:
            return huggingface.read(path, n_head=n_head)
        if any(name.endswith(".index") for name in held):
            return openai.read(path, n_head=n_head)
        if any(name.endswith(book.ENDINGS) for name in held):
            return book.read(path, n_head=n_head)
        if "config.json" in held:
            raise WeightsError(f"{path} has config.json but no {huggingface.WEIGHTS}; found {listed(sorted(held))}.")
        raise WeightsError(f"{path} holds no GPT-2: found {listed(sorted(held)) or 'nothing'}; wanted {WANTED}.")
    if not path.exists():
        raise WeightsError(f"{path} does not exist; wanted {WANTED}.")
    if path.suffix in book.ENDINGS:
        return book.read(path, n_head=n_head)
    if path.name == huggingface.WEIGHTS:
        return huggingface.read(path.parent, n_head=n_head)
    if path.suffix == ".index":
        return openai.read(path.parent, n_head=n_head)
    raise WeightsError(f"{path} is not a file of weights that we read; wanted {WANTED}.")


def home() -> Path:
    """Where downloads and caches live: RESONANCE_HOME, else ~/.cache/resonance."""
    return Path(os.environ.get("RESONANCE_HOME") or "~/.cache/resonance").expanduser()


def resolve(name_or_path: str | Path) -> Path:
    """The path itself where it exists, else the downloaded weights of that name.

    Raises WeightsError that tells how to download a known name that is not there, or what names there are.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    name = str(name_or_path)
    if name not in NAMES:
        raise WeightsError(f"There is no file or folder {name}, and no model of that name; known: {', '.join(NAMES)}.")
    folder = home() / "weights" / name
    if not folder.is_dir():
        raise WeightsError(f"{name} is not downloaded ({folder} is missing); run: resonance weights {name}")
    return folder
