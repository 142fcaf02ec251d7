"""Weights in and out: a GPT-2 from whichever layout is on disk, under the names of `resonance.model`."""

import math
from pathlib import Path
from typing import Protocol

from torch import Tensor

from resonance.model_config import GPT2Config
from resonance.paths import home
from resonance.weights import huggingface, llms_from_scratch, openai
from resonance.weights.state_dict import WeightsError, listed, shapes

__all__ = ["WeightsError", "count_parameters", "read", "read_config", "resolve"]


class Layout(Protocol):
    """A module that reads one layout."""

    def read_config(self, path: Path, /, *, n_head: int | None = None) -> GPT2Config: ...

    def read(self, path: Path, /, *, n_head: int | None = None) -> tuple[GPT2Config, dict[str, Tensor]]: ...

    def check_shapes(self, path: Path, /) -> GPT2Config: ...


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
    layout, path = _find(Path(path))
    try:
        return layout.read(path, n_head=n_head)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from None


def read_config(path: str | Path, *, n_head: int | None = None) -> GPT2Config:
    """The configuration alone, without reading through the tensors: quick for models of any size.

    Raises WeightsError as `read` does, but damage to tensors is not seen.
    """
    layout, path = _find(Path(path))
    try:
        return layout.read_config(path, n_head=n_head)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from None


def count_parameters(path: str | Path) -> int:
    """How many numbers the model at a path has learned; a tied head counts once.

    Only what stands before the tensors is read, where it says enough: their names, types, shapes and places. Raises
    WeightsError as `read` does for all that can be seen there.
    """
    layout, path = _find(Path(path))
    try:
        config = layout.check_shapes(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from None
    return sum(math.prod(shape) for shape in shapes(config).values())


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
    if _whole_layout({entry.name for entry in folder.iterdir()}) is None:
        raise WeightsError(f"{name} is downloaded only in part ({folder}); go on with: resonance weights {name}")
    return folder


def _find(path: Path) -> tuple[Layout, Path]:
    """The layout of what is at a path, and the path that its reader takes."""
    if path.is_dir():
        held = {entry.name for entry in path.iterdir()}
        layout = _whole_layout(held) or _begun_layout(held)
        if layout is None:
            raise WeightsError(f"{path} holds no GPT-2: found {listed(sorted(held)) or 'nothing'}; wanted {WANTED}.")
        return layout, path
    if not path.exists():
        raise WeightsError(f"{path} does not exist; wanted {WANTED}.")
    if path.suffix in llms_from_scratch.ENDINGS:
        return llms_from_scratch, path
    if path.name == huggingface.WEIGHTS:
        return huggingface, path.parent
    if path.suffix == openai.ENDING:
        return openai, path.parent
    raise WeightsError(f"{path} is not a file of weights that we read; wanted {WANTED}.")


def _whole_layout(held: set[str]) -> Layout | None:
    if huggingface.CONFIG in held and held & {huggingface.WEIGHTS, huggingface.INDEX}:
        return huggingface
    if any(name.endswith(openai.ENDING) for name in held):
        return openai
    if any(name.endswith(llms_from_scratch.ENDINGS) for name in held):
        return llms_from_scratch
    return None


def _begun_layout(held: set[str]) -> Layout | None:
    """The layout that a folder is part of, whose reader then says what is missing."""
    if held & {huggingface.CONFIG, huggingface.WEIGHTS}:
        return huggingface
    return openai if held & {openai.HPARAMS, openai.POINTER} else None
