"""A checkpoint on disk: save, load, find, list.

It knows files and their names; `resonance.weights` knows the tensors in them.
"""

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from resonance import lora, paths, weights
from resonance.aliases import Alias, read_aliases
from resonance.atomic_files import link_or_copy, write_atomically, write_text_atomically
from resonance.chat_template import ChatTemplate, Window
from resonance.errors import ResonanceError
from resonance.fingerprint import WEIGHTS_FILE, Fingerprint, PromptLogits, conversation_ids, file_sha256, prompt_logits
from resonance.metadata import KEPT_FOLDER, LAST_FOLDER, Metadata
from resonance.model import GPT2
from resonance.model_card import model_card
from resonance.model_config import PRESETS, GPT2Config
from resonance.tokenizer import Tokenizer
from resonance.weights.checksum import checksum, checksum_of_file, stamped_checksum
from resonance.weights.huggingface import from_huggingface, to_huggingface
from resonance.weights.safetensors_file import write as write_safetensors

MODEL_FILE, METADATA_FILE, TRAIN_FILE, STATE_FILE = (WEIGHTS_FILE, "resonance.json", "train.yaml", "last.ckpt")
NEXT_METADATA_FILE = ".resonance.json.next"  # of the weights that are about to replace the present ones
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
ADAPTER_FOLDER = "adapter"


class CheckpointError(ResonanceError):
    """A checkpoint that is missing, incomplete, damaged or not ours."""


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be loaded: a run of ours, or a base model in any layout that `resonance.weights` reads."""

    folder: Path  # the folder, or the one file of a `.pth`
    metadata: Metadata

    @property
    def name(self) -> str:
        """The run's or the base model's name; `RUN/last` for a run's newest weights, `RUN/kept/step-N`."""
        if self.folder.name == LAST_FOLDER and (self.folder.parent / METADATA_FILE).is_file():
            return f"{self.folder.parent.name}/{LAST_FOLDER}"
        if self.folder.parent.name == KEPT_FOLDER and (self.folder.parents[1] / METADATA_FILE).is_file():
            return f"{self.folder.parents[1].name}/{KEPT_FOLDER}/{self.folder.name}"
        if self.folder.parent.name == "snapshots":  # the Hub's cache: models--ORG--NAME/snapshots/COMMIT
            return self.folder.parents[1].name.rpartition("--")[2]
        return self.folder.stem if self.folder.is_file() else self.folder.name

    @cached_property
    def config(self) -> GPT2Config:
        """The model's configuration. Raises WeightsError when the files cannot be read."""
        return weights.read_config(self.folder)

    @property
    def window(self) -> Window:
        """How many tokens a conversation with the model may have."""
        return Window(self.config.context_length, self.metadata.trained_length)

    @classmethod
    def open(cls, path: str | Path) -> "Checkpoint":
        """Open the checkpoint in a folder or file. Raises CheckpointError when it is incomplete."""
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
            metadata = _next_metadata(path) or Metadata.from_json((path / METADATA_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path / METADATA_FILE} cannot be read ({error}).") from error
        return cls(path, metadata)

    @classmethod
    def find(cls, what: str | Path, root: Path | None = None) -> "Checkpoint":
        """Find a checkpoint: `latest`, `best`, an alias, a run's name, `RUN/last`, a folder or file, or a base model.

        Raises CheckpointError, which lists the checkpoints, when there is none of that name, or when an alias's run has
        other weights than those that were promoted.
        """
        root = root or paths.CHECKPOINTS
        if (alias := read_aliases(root).get(str(what))) is not None:
            return cls._promoted(alias, root)
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
        runs = ", ".join([*read_aliases(root), *(run.name for run in cls.list(root))]) or "no runs yet"
        bases = ", ".join(weights.downloaded_models())
        raise CheckpointError(
            f"There is no checkpoint {str(what)!r}; there are: {runs}; downloaded base models: {bases or 'none'}."
        )

    @classmethod
    def find_named(cls, name: str, root: Path | None = None) -> "Checkpoint":
        """Find a checkpoint like `find`, but never one outside `root`, neither by a path nor by a link.

        Downloaded base models are found by name. Raises CheckpointError when there is none.
        """
        root = root or paths.CHECKPOINTS
        if name not in ("latest", "best", *PRESETS, *read_aliases(root)):
            inside = "/" not in name and (root / name).is_dir() and (root / name).resolve().parent == root.resolve()
            if not inside or name in (".", ".."):
                runs = ", ".join(run.name for run in cls.list(root)) or "no runs yet"
                raise CheckpointError(f"There is no checkpoint {name!r}; there are: {runs}.")
            return cls.open(root / name)
        return cls.find(name if name not in PRESETS else weights.resolve(name), root)

    @classmethod
    def _promoted(cls, alias: Alias, root: Path) -> "Checkpoint":
        run = alias.current.run
        if not (root / run / METADATA_FILE).is_file():
            raise CheckpointError(
                f"{alias.name} is the run {run!r}, which is no longer in {root}; `resonance promote --back` or promote "
                "another one."
            )
        checkpoint = cls.open(root / run)
        if checkpoint.crc32 != alias.current.crc32:
            raise CheckpointError(
                f"{alias.name} is the run {run!r}, whose weights have changed since it was promoted; "
                f"`resonance promote {run}` promotes them, `resonance promote --back` goes back."
            )
        return checkpoint

    @property
    def crc32(self) -> str | None:
        """The checksum that the weights' file carries; None where it has none or is damaged."""
        try:
            return stamped_checksum(self.folder / MODEL_FILE)
        except (SafetensorError, OSError):
            return None

    @classmethod
    def list(cls, root: Path | None = None) -> "list[Checkpoint]":
        """List the complete checkpoints under `root`, newest first; broken ones are skipped."""
        runs: list[tuple[float, Checkpoint]] = []
        for folder in run_folders(root):
            try:
                runs.append(((folder / MODEL_FILE).stat().st_mtime, cls.open(folder)))
            except (ResonanceError, OSError):
                continue
        return [run for _, run in sorted(runs, key=lambda pair: pair[0], reverse=True)]

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
        """Write a model, its tokenizer and its metadata with the fingerprint of all that, each file atomically.

        transformers opens the folder. An adapter is merged into the weights, and also saved alone in `adapter/`, which
        peft opens. `same_as` is a file that already holds these tensors and is linked instead of written; `name`
        replaces the folder's name in the model card. A previous file is replaced only once the new one is on disk.
        Raises OSError when the disk is full or cannot be written.
        """
        folder, described = Path(folder), metadata or Metadata()
        folder.mkdir(parents=True, exist_ok=True)
        template = ChatTemplate.named(described.template, tokenizer)
        config, state = to_huggingface(model.config, lora.MergedState(model), eos_token_id=template.end_id)
        tokenizer.save(folder, chat_template=template.jinja)
        if lora.config_of(model) is not None:
            adapter = lora.save(model, folder / ADAPTER_FOLDER, base=described.base)
            described = replace(described, adapter={**adapter, "base": described.base})
            tokenizer.save(folder / ADAPTER_FOLDER, chat_template=template.jinja)
        write_text_atomically(folder / "config.json", json.dumps(config, indent=2) + "\n")
        if train_yaml is not None:
            write_text_atomically(folder / TRAIN_FILE, train_yaml)
        files = _hashes(folder, adapter=described.adapter is not None)
        known = None if same_as is None else cls.open(same_as.parent).metadata.fingerprint

        def announced(path: Path) -> Metadata:
            # Written before the weights are replaced, so that a kill in between leaves no weights of another record.
            logits = known.logits if known else _logits(config, state)
            hashes = {MODEL_FILE: file_sha256(path), **files}
            fingerprint = Fingerprint(hashes, stamped_checksum(path), conversation_ids(template), logits)
            record = replace(described, fingerprint=fingerprint, verified=None)
            write_text_atomically(folder / NEXT_METADATA_FILE, record.to_json())
            return record

        if same_as is None:
            state = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
            stamp = {"format": "pt", "crc32": checksum(state)}
            records: list[Metadata] = []

            def write(path: Path) -> None:
                write_safetensors(state, path, stamp)
                records.append(announced(path))

            try:
                write_atomically(folder / MODEL_FILE, write)
            except SafetensorError as error:  # which safetensors raises for a full disk
                raise OSError(errno.EIO, str(error), str(folder / MODEL_FILE)) from error
            (record,) = records
        else:
            record = announced(same_as)
            link_or_copy(same_as, folder / MODEL_FILE)
        checkpoint = cls(folder, record)
        checkpoint._write_metadata(name)
        return checkpoint

    def num_parameters(self) -> int:
        """Count the parameters from the files' headers, without loading weights.

        Raises WeightsError or CheckpointError when the file is damaged.
        """
        if (self.folder / METADATA_FILE).is_file():
            self._verify()
        return weights.count_parameters(self.folder)

    def load_model(self, dtype: torch.dtype | None = None) -> GPT2:
        """Load the model, its weights mapped from the file and verified against their checksum.

        Raises WeightsError or CheckpointError when the file is damaged.
        """
        if (self.folder / METADATA_FILE).is_file():
            self._verify()
        return GPT2.from_pretrained(self.folder, dtype=dtype)

    def load_tokenizer(self) -> Tokenizer:
        """Load the tokenizer that the model was trained with; GPT-2's own for a base model."""
        if (self.folder / "tokenizer_config.json").is_file():
            return Tokenizer.load(self.folder)
        return Tokenizer.gpt2()

    def template(self) -> ChatTemplate:
        """Make the chat template that the model was trained with."""
        return ChatTemplate.named(self.metadata.template, self.load_tokenizer())

    def train_yaml(self) -> str | None:
        """Return the resolved config of the training run as YAML text; None for a base model."""
        path = self.folder / TRAIN_FILE
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def record(self, **changes: object) -> "Checkpoint":
        """Replace fields of the metadata in `resonance.json` and the model card."""
        changed = Checkpoint(self.folder, replace(self.metadata, **changes))  # pyright: ignore[reportArgumentType]  # callers name fields
        changed._write_metadata()
        return changed

    def record_scores(self, scores: Mapping[str, dict[str, object]]) -> "Checkpoint":
        """Add scores by task to `resonance.json` and the model card; they replace the same tasks' older scores."""
        return self.record(scores={**self.metadata.scores, **scores})

    def _write_metadata(self, name: str | None = None) -> None:
        write_text_atomically(self.folder / METADATA_FILE, self.metadata.to_json())
        (self.folder / NEXT_METADATA_FILE).unlink(missing_ok=True)
        card = model_card(name or self.name, self.config, self.metadata)
        write_text_atomically(self.folder / "README.md", card)

    def _verify(self) -> None:
        path = self.folder / MODEL_FILE
        try:
            expected = stamped_checksum(path)  # also checks that the file is whole
            actual = checksum_of_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged and cannot be read ({error}).") from error
        if expected is not None and expected != actual:
            raise CheckpointError(
                f"{path} is damaged: its tensors' checksum is {actual}, and {expected} was written; "
                "use another checkpoint or train again."
            )


def run_folders(root: Path | None = None) -> list[Path]:
    """List every folder under `root` that holds a file of a run, complete or not."""
    root = root or paths.CHECKPOINTS
    if not root.is_dir():
        return []
    files = (METADATA_FILE, TRAIN_FILE, MODEL_FILE)
    return sorted(folder for folder in root.iterdir() if any((folder / file).is_file() for file in files))


def _next_metadata(folder: Path) -> Metadata | None:
    """The record of the present weights where a process was killed between replacing them and their record."""
    try:
        metadata = Metadata.from_json((folder / NEXT_METADATA_FILE).read_text(encoding="utf-8"))
        crc32 = stamped_checksum(folder / MODEL_FILE)
    except (FileNotFoundError, SafetensorError):
        return None
    return metadata if metadata.fingerprint and metadata.fingerprint.crc32 == crc32 else None


def _hashes(folder: Path, *, adapter: bool) -> dict[str, str]:
    """The SHA-256 of every file of a checkpoint but its weights, its record and its card."""
    names = ["config.json", *TOKENIZER_FILES]
    if adapter:
        names += sorted(f"{ADAPTER_FOLDER}/{path.name}" for path in (folder / ADAPTER_FOLDER).iterdir())
    return {name: file_sha256(folder / name) for name in names}


def _logits(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[PromptLogits]:
    """The logits on fixed prompts of Hugging Face's tensors, in float32 on the CPU."""
    sizes, state = from_huggingface(config, tensors)
    return prompt_logits(GPT2.from_state(sizes, {name: tensor.cpu().float() for name, tensor in state.items()}))


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
