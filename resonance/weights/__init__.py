"""Weights in and out: reads a GPT-2 from whichever layout is on disk, under the tensor names of `resonance.model`."""

import math
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from torch import Tensor

from resonance.model_config import GPT2Config
from resonance.paths import home
from resonance.weights import huggingface, llms_from_scratch, openai
from resonance.weights.state_dict import WeightsError, listed, shapes

__all__ = ["WeightsError", "count_parameters", "downloaded_models", "read", "read_config", "resolve"]


class Layout(Protocol):
    """A module that reads one layout."""

    def read_config(self, path: Path, /, *, n_head: int | None = None) -> GPT2Config: ...

    def read(self, path: Path, /, *, n_head: int | None = None) -> tuple[GPT2Config, dict[str, Tensor]]: ...

    def check_shapes(self, path: Path, /) -> GPT2Config: ...


NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
EXPECTED = (
    "a folder with config.json and model.safetensors (Hugging Face), a folder with hparams.json and "
    "model.ckpt.* (OpenAI's TensorFlow files), or a .pth state dict (Build a LLM From Scratch)"
)


def read(path: str | Path, *, n_head: int | None = None) -> tuple[GPT2Config, dict[str, Tensor]]:
    """Read the configuration and the tensors of the model at a path, whose layout is detected.

    Matrices are (out, in); dtypes are those of the file; tensors may be mapped from it, and changing them never
    changes the file. `n_head` is for the `.pth` layout, which does not hold it. Raises WeightsError.
    """
    layout, path = _find_layout(Path(path))
    with _readable(path):
        return layout.read(path, n_head=n_head)


def read_config(path: str | Path, *, n_head: int | None = None) -> GPT2Config:
    """Read the configuration without reading the tensors: quick for models of any size.

    Raises WeightsError as `read` does, but does not notice damaged tensors.
    """
    layout, path = _find_layout(Path(path))
    with _readable(path):
        return layout.read_config(path, n_head=n_head)


def count_parameters(path: str | Path) -> int:
    """Count the parameters of the model at a path; a tied head counts once.

    Reads only the header before the tensors where it suffices: their names, dtypes, shapes and offsets. Raises
    WeightsError as `read` does for everything that shows there.
    """
    layout, path = _find_layout(Path(path))
    with _readable(path):
        return sum(math.prod(shape) for shape in shapes(layout.check_shapes(path)).values())


def resolve(name_or_path: str | Path) -> Path:
    """Return the path itself where it exists, else the downloaded weights of that name.

    A name's files are in RESONANCE_HOME/weights, or in the Hugging Face Hub's cache. Raises WeightsError that gives the
    command to download a released model, or lists the known names.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    name = str(name_or_path)
    if name not in NAMES:
        raise WeightsError(f"There is no file or folder {name}, and no model of that name; known: {', '.join(NAMES)}.")
    if (downloaded := _find_downloaded(name)) is not None:
        return downloaded
    folder = home() / "weights" / name
    if not folder.is_dir():
        raise WeightsError(f"{name} is not downloaded ({folder} is missing); run: resonance weights {name}")
    raise WeightsError(f"{name} is downloaded only in part ({folder}); go on with: resonance weights {name}")


def downloaded_models() -> list[str]:
    """List the released models that are on this machine, by name."""
    return [name for name in NAMES if _find_downloaded(name) is not None]


def find_snapshot(name: str) -> Path | None:
    """Return a released model's folder in the Hugging Face Hub's cache; None where it is not there whole."""
    from huggingface_hub import try_to_load_from_cache  # an HTTP client, which a folder's reader does not need

    for repo in (f"openai-community/{name}", name):  # transformers knows the models by both
        files = [try_to_load_from_cache(repo, file) for file in (huggingface.CONFIG, huggingface.WEIGHTS)]
        if all(isinstance(file, str) for file in files):
            return Path(str(files[0])).parent
    return None


def _find_downloaded(name: str) -> Path | None:
    folder = home() / "weights" / name
    if folder.is_dir() and _complete_layout({entry.name for entry in folder.iterdir()}) is not None:
        return folder
    return find_snapshot(name)


@contextmanager
def _readable(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from None


def _find_layout(path: Path) -> tuple[Layout, Path]:
    """Detect the layout of the files at a path; return it with the path that its reader takes."""
    if path.is_dir():
        files = {entry.name for entry in path.iterdir()}
        layout = _complete_layout(files) or _partial_layout(files)
        if layout is None:
            raise WeightsError(f"{path} holds no GPT-2: found {listed(sorted(files)) or 'nothing'}; wanted {EXPECTED}.")
        return layout, path
    if not path.exists():
        raise WeightsError(f"{path} does not exist; wanted {EXPECTED}.")
    if path.suffix in llms_from_scratch.ENDINGS:
        return llms_from_scratch, path
    if path.name == huggingface.WEIGHTS:
        return huggingface, path.parent
    if path.suffix == openai.ENDING:
        return openai, path.parent
    raise WeightsError(f"{path} is not a file of weights that we read; wanted {EXPECTED}.")


def _complete_layout(files: set[str]) -> Layout | None:
    if huggingface.CONFIG in files and files & {huggingface.WEIGHTS, huggingface.INDEX}:
        return huggingface
    if any(name.endswith(openai.ENDING) for name in files):
        return openai
    if any(name.endswith(llms_from_scratch.ENDINGS) for name in files):
        return llms_from_scratch
    return None


def _partial_layout(files: set[str]) -> Layout | None:
    """Return the layout that a folder is part of; its reader then names what is missing."""
    if files & {huggingface.CONFIG, huggingface.WEIGHTS}:
        return huggingface
    return openai if files & {openai.HPARAMS, openai.POINTER} else None
