"""A checkpoint on disk: save, load, find, list.

It knows files and what they are called; how tensors are named in them is `resonance.weights`' business.
"""

import errno
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from resonance import lora, paths, weights
from resonance.atomic_files import link_or_copy, write_atomically, write_text_atomically
from resonance.chat_template import ChatTemplate, Window
from resonance.errors import ResonanceError
from resonance.metadata import LAST_FOLDER, Metadata
from resonance.model import GPT2
from resonance.model_card import model_card
from resonance.model_config import PRESETS, GPT2Config
from resonance.tokenizer import Tokenizer
from resonance.weights.huggingface import to_huggingface

MODEL_FILE, METADATA_FILE, TRAIN_FILE, STATE_FILE = ("model.safetensors", "resonance.json", "train.yaml", "last.ckpt")
ADAPTER_FOLDER = "adapter"
READ_AT_ONCE = 4 << 20  # bytes


class CheckpointError(ResonanceError):
    """A checkpoint that is not there, not whole, or not ours."""


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be loaded: a run of ours, or a base model in any layout that `resonance.weights` reads."""

    folder: Path  # the folder, or the one file of a `.pth`
    metadata: Metadata

    @property
    def name(self) -> str:
        """The run's or the base model's name; `RUN/last` for a run's newest weights."""
        if self.folder.name == LAST_FOLDER and (self.folder.parent / METADATA_FILE).is_file():
            return f"{self.folder.parent.name}/{LAST_FOLDER}"
        if self.folder.parent.name == "snapshots":  # the Hub's cache: models--ORG--NAME/snapshots/COMMIT
            return self.folder.parents[1].name.rpartition("--")[2]
        return self.folder.stem if self.folder.is_file() else self.folder.name

    @cached_property
    def config(self) -> GPT2Config:
        """The model's sizes. Raises WeightsError when the files cannot be read."""
        return weights.read_config(self.folder)

    @property
    def window(self) -> Window:
        """How many tokens a conversation with it may have, as it was trained."""
        return Window(self.config.context_length, self.metadata.trained_length)

    @classmethod
    def open(cls, path: str | Path) -> "Checkpoint":
        """The checkpoint in a folder or file. Raises CheckpointError when it is not a whole one."""
        path = Path(path)
        if not (path / METADATA_FILE).is_file():
            if (path / TRAIN_FILE).is_file():
                raise CheckpointError(f"{path} holds a run that has saved no weights yet; let it train on.")
            weights.read_config(path)
            return cls(path, Metadata())
        missing = [name for name in (MODEL_FILE, "config.json") if not (path / name).is_file()]
        if missing:
            raise CheckpointError(f"The checkpoint {path} is not whole: {', '.join(missing)} is missing.")
        try:
            metadata = Metadata.from_json((path / METADATA_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path / METADATA_FILE} cannot be read ({error}).") from error
        return cls(path, metadata)

    @classmethod
    def find(cls, what: str | Path, root: Path | None = None) -> "Checkpoint":
        """The checkpoint of a name: `latest`, `best`, a run's, `RUN/last`, a folder or file, or a base model's.

        Raises CheckpointError, which lists what there is, when there is none of that name.
        """
        root = root or paths.CHECKPOINTS
        if what in ("latest", "best"):
            runs = cls.list(root)
            if not runs:
                raise CheckpointError(f"There is no checkpoint in {root} yet; make one with `resonance train`.")
            return runs[0] if what == "latest" else _best(runs)
        if (root / what).is_dir():
            return cls.open(root / what)
        if Path(what).exists():
            return cls.open(what)
        if str(what) in PRESETS:
            return cls.open(weights.resolve(what))
        there = ", ".join(run.name for run in cls.list(root)) or "no runs yet"
        bases = ", ".join(weights.downloaded_models())
        raise CheckpointError(
            f"There is no checkpoint {str(what)!r}; there are: {there}; downloaded base models: {bases or 'none'}."
        )

    @classmethod
    def find_named(cls, name: str, root: Path | None = None) -> "Checkpoint":
        """The checkpoint of a name as `find` finds it, but never one outside `root`, be it by a path or by a link.

        Base models, which are downloaded, have their own names. Raises CheckpointError when there is none.
        """
        root = root or paths.CHECKPOINTS
        if name not in ("latest", "best", *PRESETS):
            inside = "/" not in name and (root / name).is_dir() and (root / name).resolve().parent == root.resolve()
            if not inside or name in (".", ".."):
                there = ", ".join(run.name for run in cls.list(root)) or "no runs yet"
                raise CheckpointError(f"There is no checkpoint {name!r}; there are: {there}.")
            return cls.open(root / name)
        return cls.find(name if name not in PRESETS else weights.resolve(name), root)

    @classmethod
    def list(cls, root: Path | None = None) -> "list[Checkpoint]":
        """The whole checkpoints under `root`, newest first; broken ones are passed over."""
        found: list[tuple[float, Checkpoint]] = []
        for folder in run_folders(root):
            try:
                found.append(((folder / MODEL_FILE).stat().st_mtime, cls.open(folder)))
            except (ResonanceError, OSError):
                continue
        return [run for _, run in sorted(found, key=lambda pair: pair[0], reverse=True)]

    @classmethod
    def save(
        cls,
        folder: str | Path,
        model: GPT2,
        tokenizer: Tokenizer,
        metadata: Metadata | None = None,
        *,
        train_yaml: str | None = None,
        same_as: Path | None = None,
        name: str | None = None,
    ) -> "Checkpoint":
        """Write a model, its tokenizer and where it came from, each file whole or not at all.

        transformers opens the folder as it is. An adapter is merged into the weights that are written, and stands by
        itself in `adapter/`, which peft opens. `same_as` is a file that holds these very tensors already and is taken
        as it is; `name` stands in the model card instead of the folder's. What stood in the folder is replaced only
        once its successor is on disk. Raises OSError when the disk will not take it.
        """
        folder, metadata = Path(folder), metadata or Metadata()
        folder.mkdir(parents=True, exist_ok=True)
        template = ChatTemplate.named(metadata.template, tokenizer)
        config, state = to_huggingface(model.config, lora.MergedState(model), eos_token_id=template.end_id)
        tokenizer.save(folder, chat_template=template.jinja)
        if lora.config_of(model) is not None:
            adapter = lora.save(model, folder / ADAPTER_FOLDER, base=metadata.base)
            metadata = replace(metadata, adapter={**adapter, "base": metadata.base})
            tokenizer.save(folder / ADAPTER_FOLDER, chat_template=template.jinja)
        write_text_atomically(folder / "config.json", json.dumps(config, indent=2) + "\n")
        if train_yaml is not None:
            write_text_atomically(folder / TRAIN_FILE, train_yaml)
        if same_as is None:
            tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
            stamp = {"format": "pt", "crc32": _checksum(tensors)}
            try:
                write_atomically(folder / MODEL_FILE, lambda path: save_file(tensors, path, stamp))
            except SafetensorError as error:  # which is how it tells of a full disk
                raise OSError(errno.EIO, str(error), str(folder / MODEL_FILE)) from error
        else:
            link_or_copy(same_as, folder / MODEL_FILE)
        checkpoint = cls(folder, metadata)
        checkpoint._write_metadata(name)
        return checkpoint

    def num_parameters(self) -> int:
        """How many numbers the model has learned, by its files' headers; no weights are loaded.

        Raises WeightsError or CheckpointError when the file is damaged.
        """
        if (self.folder / METADATA_FILE).is_file():
            self._verify()
        return weights.count_parameters(self.folder)

    def load_model(self, dtype: torch.dtype | None = None) -> GPT2:
        """The model, with its weights mapped from the file and checked against their checksum.

        Raises WeightsError or CheckpointError when the file is damaged.
        """
        if (self.folder / METADATA_FILE).is_file():
            self._verify()
        return GPT2.from_pretrained(self.folder, dtype=dtype)

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer that the model was trained with; GPT-2's own for a base model."""
        if (self.folder / "tokenizer_config.json").is_file():
            return Tokenizer.load(self.folder)
        return Tokenizer.gpt2()

    def template(self) -> ChatTemplate:
        """The chat template that the model was trained with."""
        return ChatTemplate.named(self.metadata.template, self.load_tokenizer())

    def train_yaml(self) -> str | None:
        """The resolved config that made it, as YAML text; None for a base model."""
        path = self.folder / TRAIN_FILE
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def record(self, **known: object) -> "Checkpoint":
        """Replace some of what `resonance.json` and the model card say."""
        changed = Checkpoint(self.folder, replace(self.metadata, **known))  # pyright: ignore[reportArgumentType]  # callers name fields
        changed._write_metadata()
        return changed

    def record_scores(self, scores: Mapping[str, dict[str, object]]) -> "Checkpoint":
        """Add scores by task to `resonance.json` and to the model card; the same tasks' older scores go."""
        return self.record(scores={**self.metadata.scores, **scores})

    def _write_metadata(self, name: str | None = None) -> None:
        write_text_atomically(self.folder / METADATA_FILE, self.metadata.to_json())
        card = model_card(name or self.name, self.config, self.metadata)
        write_text_atomically(self.folder / "README.md", card)

    def _verify(self) -> None:
        path = self.folder / MODEL_FILE
        try:
            with safe_open(path, "pt") as file:  # also sees that the file is whole
                expected = (file.metadata() or {}).get("crc32")
            actual = _checksum_of_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged and cannot be read ({error}).") from error
        if expected is not None and expected != actual:
            raise CheckpointError(
                f"{path} is damaged: its tensors' checksum is {actual}, and {expected} was written; "
                "use another checkpoint or train again."
            )


def run_folders(root: Path | None = None) -> list[Path]:
    """Every folder under `root` that a run has begun to write, whole or not."""
    root = root or paths.CHECKPOINTS
    if not root.is_dir():
        return []
    marks = (METADATA_FILE, TRAIN_FILE, MODEL_FILE)
    return sorted(folder for folder in root.iterdir() if any((folder / mark).is_file() for mark in marks))


def _best(runs: list[Checkpoint]) -> Checkpoint:
    monitored = [run for run in runs if run.metadata.monitor is not None]
    if not monitored:
        raise CheckpointError("No run has a monitored score; name a run instead of `best`.")
    best = monitored[0]
    for run in monitored[1:]:
        assert run.metadata.monitor is not None
        if run.metadata.monitor.better_than(best.metadata.monitor):
            best = run
    return best


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 over the bytes of all tensors, in the order of their names."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].contiguous().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _checksum_of_file(path: Path) -> str:
    """The same of a safetensors file, read a little at a time: mapped, all of it would count as memory in use."""
    crc = 0
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        for name in sorted(header.keys() - {"__metadata__"}):
            first, last = header[name]["data_offsets"]
            file.seek(8 + size + first)
            for position in range(first, last, READ_AT_ONCE):
                crc = zlib.crc32(file.read(min(READ_AT_ONCE, last - position)), crc)
    return f"{crc:08x}"
