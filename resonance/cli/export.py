"""`resonance export`: a checkpoint in another program's layout, written whole or not at all."""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.filesize import decimal
from torch import Tensor

from resonance.checkpoint import Checkpoint
from resonance.hydra_config import compose
from resonance.model_card import exported_card
from resonance.model_config import GPT2Config
from resonance.tokenizer import EOT
from resonance.weights import WeightsError, gguf, huggingface, openai
from resonance.weights.state_dict import listed

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
EXPORTED = re.compile(  # the files of an export; a folder with others is never replaced
    r"config\.json|model\.safetensors|vocab\.json|merges\.txt|tokenizer_config\.json"
    r"|generation_config\.json|README\.md"
    r"|hparams\.json|checkpoint|model\.ckpt\.(index|data-\d{5}-of-\d{5})|encoder\.json|vocab\.bpe"
)


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A model to export, with its checkpoint's tokenizer and template."""

    name: str
    config: GPT2Config
    state: dict[str, Tensor]
    checkpoint: Checkpoint

    @property
    def fits_tokenizer(self) -> bool:
        """Whether every token of the tokenizer has a row in the model."""
        return self.checkpoint.load_tokenizer().vocab_size <= self.config.vocab_size

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return self.checkpoint.template().end_id

    def write_tokenizer(self, folder: Path) -> None:
        """Write Hugging Face's three tokenizer files into a folder."""
        template = self.checkpoint.template()
        self.checkpoint.load_tokenizer().save(folder, chat_template=template.jinja)


def main(overrides: list[str]) -> None:
    """Write the checkpoint `checkpoint` to `out`; see `configs/export.yaml`."""
    config = compose("export", overrides)
    if config.out is None:
        raise WeightsError("Say where to write it: out=PATH.")
    out = export(
        Checkpoint.find(str(config.checkpoint), None if config.root is None else Path(str(config.root)).expanduser()),
        str(config.format),
        Path(str(config.out)).expanduser(),
        kind=None if config.type is None else str(config.type),
        shards=config.shards,
        overwrite=config.overwrite,
    )
    Console(stderr=True).print(f"{decimal(_size(out))} written.", highlight=False)
    print(out)


def export(
    checkpoint: Checkpoint,
    layout: str,
    out: Path,
    *,
    kind: str | None = None,
    shards: int = 1,
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint as `gguf` (a file), `huggingface` or `openai` (a folder); return its path.

    `kind` is the numbers' type: one of `gguf.FORMATS` for gguf; f32, f16 or bf16 for huggingface (default: the
    checkpoint's); f32 for openai, over `shards` files. Raises WeightsError for an unknown layout or type, and where
    `out` exists, unless `overwrite` is given and `out` is an export.
    """
    kinds = {"gguf": tuple(gguf.FORMATS), "huggingface": tuple(DTYPES), "openai": ("f32",)}
    if layout not in kinds:
        raise WeightsError(f"There is no format {layout!r}; there are {', '.join(kinds)}.")
    if kind is not None and kind not in kinds[layout]:
        raise WeightsError(f"format={layout} has no type {kind!r}; it has {', '.join(kinds[layout])}.")
    if shards < 1:
        raise WeightsError(f"shards must be at least 1, not {shards}.")
    _check_writable(out, overwrite, is_file=layout == "gguf")
    loaded = checkpoint.load_model()
    model = ExportedModel(checkpoint.name, loaded.config, loaded.state_dict(), checkpoint)
    match layout:
        case "gguf":
            _write_atomically(out, lambda path: _write_gguf(path, model, kind or "f16"))
        case "huggingface":
            _write_atomically(out, lambda path: _write_huggingface(path, model, kind))
        case _:
            _write_atomically(out, lambda path: _write_openai(path, model, shards))
    return out


def _write_gguf(path: Path, model: ExportedModel, kind: str) -> None:
    gguf.write(path, model.name, model.config, model.state, vocabulary(model.checkpoint), kind)


def _write_huggingface(folder: Path, model: ExportedModel, kind: str | None) -> None:
    folder.mkdir()
    state = model.state if kind is None else {name: value.to(DTYPES[kind]) for name, value in model.state.items()}
    huggingface.write(folder, model.config, state, eos_token_id=model.end_id, pad_token_id=huggingface.END_OF_TEXT)
    if model.fits_tokenizer:
        model.write_tokenizer(folder)
        _complete_tokenizer(folder, model)
    card = exported_card(model.name, model.config, model.checkpoint.metadata, has_tokenizer=model.fits_tokenizer)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _complete_tokenizer(folder: Path, model: ExportedModel) -> None:
    """Add what other programs look for: the pad token, the end token of training, marks of what was supervised."""
    path, template = folder / "tokenizer_config.json", model.checkpoint.template()
    end = template.tokenizer.token_bytes(template.end_id).decode()
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"pad_token": EOT, "eos_token": end, "chat_template": template.marked_jinja}
    config |= {"model_max_length": model.config.context_length}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _write_openai(folder: Path, model: ExportedModel, shards: int) -> None:
    folder.mkdir()
    openai.write(folder, model.config, {name: value.float() for name, value in model.state.items()}, shards=shards)
    if model.fits_tokenizer:  # under the names that OpenAI's encoder.py reads
        model.write_tokenizer(folder)
        (folder / "vocab.json").rename(folder / "encoder.json")
        (folder / "merges.txt").rename(folder / "vocab.bpe")
        (folder / "tokenizer_config.json").unlink()


def vocabulary(checkpoint: Checkpoint) -> gguf.Vocabulary:
    """A checkpoint's tokens, merges and template in the form of a GGUF file."""
    tokenizer, template = checkpoint.load_tokenizer(), checkpoint.template()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder, chat_template=template.jinja)
        ids: dict[str, int] = json.loads((Path(folder) / "vocab.json").read_text(encoding="utf-8"))
        merges = (Path(folder) / "merges.txt").read_text(encoding="utf-8").splitlines()
    return gguf.Vocabulary(
        tokens=sorted(ids, key=ids.__getitem__),
        merges=[line for line in merges if line and not line.startswith("#version")],
        control_ids=frozenset(tokenizer.special_tokens.values()),
        bos_id=tokenizer.eot_id,
        eos_id=template.end_id,
        chat_template=template.jinja,
    )


def _check_writable(out: Path, overwrite: bool, *, is_file: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir()) and not is_file):
        return
    if out.is_dir() is is_file:
        raise WeightsError(f"{out} is a {'folder' if is_file else 'file'}, and this format is the other; name another.")
    if not overwrite:
        raise WeightsError(f"{out} is there already; name another, or replace it with overwrite=true.")
    others = [path.name for path in out.iterdir() if not EXPORTED.fullmatch(path.name)] if out.is_dir() else []
    if others:
        raise WeightsError(f"{out} holds what no export wrote ({listed(sorted(others))}), so it is not replaced.")


def _write_atomically(out: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary path beside `out`, then rename it to `out`."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            write(new)
            if out.is_dir():
                out.rename(old)
            new.replace(out)
    except OSError as error:
        raise WeightsError(f"{out} cannot be written: {error.strerror or error}.") from None


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.iterdir()))
