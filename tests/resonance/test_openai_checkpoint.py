import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from resonance.model import GPT2, GPT2Config
from resonance.weights import WeightsError, openai, read
from resonance.weights.protobuf import bytes_field, int_field
from resonance.weights.sstable import read_table, write_table
from resonance.weights.tensor_bundle import write_bundle

TINY = GPT2Config(vocab_size=97, context_length=24, n_layer=2, n_head=2, n_embd=16, dropout=0.1)
INDEX, DATA = "model.ckpt.index", "model.ckpt.data-00000-of-00001"


def random_state(config: GPT2Config) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn_like(value) for name, value in GPT2(config).state_dict().items()}


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    state = random_state(TINY)
    openai.write(tmp_path, TINY, state)
    return tmp_path, state


def test_logits_equal_those_of_openais_own_graph(shared_data: Path):
    folder = shared_data / "openai-gpt2-tiny"
    expected = np.load(folder / "expected.npz")
    with torch.no_grad():
        logits = GPT2.from_pretrained(folder)(torch.from_numpy(expected["input_ids"]).long())
    np.testing.assert_allclose(logits.numpy(), expected["logits"], atol=1e-4, rtol=0)


def test_what_is_written_is_byte_for_byte_what_tensorflow_wrote(shared_data: Path, tmp_path: Path):
    folder = shared_data / "openai-gpt2-tiny"
    openai.write(tmp_path, *read(folder))
    for name in (INDEX, DATA, "checkpoint"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name
    assert json.loads((tmp_path / "hparams.json").read_text()) == json.loads((folder / "hparams.json").read_text())


@pytest.mark.parametrize("shards", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_model_is_read_back_from_any_number_of_shards(tmp_path: Path, shards: int, dtype: torch.dtype):
    state = {name: value.to(dtype) for name, value in random_state(TINY).items()}
    openai.write(tmp_path, TINY, state, shards=shards)
    files = sorted(tmp_path.glob("model.ckpt.data-*"))
    assert len(files) == shards and all(file.stat().st_size for file in files)
    config, found = read(tmp_path)
    assert config == TINY
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].dtype == dtype and found[name].is_contiguous() and found[name].equal(value), name


def test_changing_the_tensors_never_changes_the_file(written: tuple[Path, dict[str, Tensor]]):
    folder, state = written
    before = (folder / DATA).read_bytes()
    for value in read(folder)[1].values():
        value.zero_()
    assert (folder / DATA).read_bytes() == before
    assert read(folder)[1]["norm.weight"].equal(state["norm.weight"])


def test_the_pointer_file_chooses_among_several_checkpoints(written: tuple[Path, dict[str, Tensor]]):
    folder, _ = written
    for name in (INDEX, DATA):
        shutil.copy(folder / name, folder / name.replace("model.ckpt", "older.ckpt"))
    (folder / "checkpoint").write_text('model_checkpoint_path: "/somewhere/else/model.ckpt"\n')
    (folder / "older.ckpt.data-00000-of-00001").write_bytes(b"")
    read(folder)
    (folder / "checkpoint").unlink()
    with pytest.raises(WeightsError, match=r"one TensorFlow checkpoint.*model\.ckpt\.index, older\.ckpt\.index"):
        read(folder)


def test_a_missing_pointer_file_does_not_matter_when_there_is_one_checkpoint(written: tuple[Path, dict[str, Tensor]]):
    (written[0] / "checkpoint").unlink()
    assert read(written[0])[0] == TINY
    assert read(written[0] / INDEX)[0] == TINY


def flip_a_byte_of_wpe(folder: Path) -> None:
    content = bytearray((folder / DATA).read_bytes())
    at = content.find(read(folder)[1]["position_embedding.weight"].numpy().tobytes())
    content[at + 9] ^= 0x10
    (folder / DATA).write_bytes(content)


def flip_a_byte_of_the_index(folder: Path) -> None:
    content = bytearray((folder / INDEX).read_bytes())
    content[40] ^= 1
    (folder / INDEX).write_bytes(content)


def cut(name: str, keep: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])

    return damage


def hparams(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        settings = json.loads((folder / "hparams.json").read_text()) | changes
        (folder / "hparams.json").write_text(json.dumps(settings))

    return damage


def entry(name: str, change: Callable[[bytes], bytes | None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        table = read_table((folder / INDEX).read_bytes())
        changed = change(table.pop(name.encode()))
        if changed is not None:
            table[name.encode()] = changed
        (folder / INDEX).write_bytes(write_table(table))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_byte_of_wpe, r"model/wpe in .*data-00000-of-00001 is damaged: its checksum"),
        (flip_a_byte_of_the_index, r"model\.ckpt\.index cannot be read.*checksum of the block at byte 0"),
        (cut(DATA, 3000), r"model/\S+ is cut off: it ends at byte \d+ of .*which has 3000"),
        (cut(DATA, 0), r"data-00000-of-00001 is empty; model/wte"),
        (cut(INDEX, 500), r"model\.ckpt\.index cannot be read.*cut short"),
        (cut(INDEX, 0), r"model\.ckpt\.index cannot be read.*cut short"),
        (cut("hparams.json", 9), r"hparams\.json cannot be read as JSON"),
        (lambda folder: (folder / DATA).unlink(), r"data-00000-of-00001 is missing; model/wte is in it"),
        (lambda folder: (folder / "hparams.json").unlink(), r"hparams\.json is missing"),
        (lambda folder: (folder / "hparams.json").write_text("[]"), r"hparams\.json must hold a JSON object, not list"),
        (hparams(n_head=None), r"hparams\.json must give a whole number for 'n_head', not None"),
        (hparams(n_head="2"), r"hparams\.json must give a whole number for 'n_head', not '2'"),
        (hparams(n_head=3), r"hparams\.json makes no GPT-2: n_embd \(16\) must be a multiple of n_head \(3\)"),
        (hparams(n_vocab=98), r"model/wte in .* has the shape \(97, 16\), not \(98, 16\)"),
        (hparams(n_embd=32), r"model/wte in .* has the shape \(97, 16\), not \(97, 32\)"),
        (hparams(n_layer=3), r"model/h2/ln_1/g is missing from .*model\.ckpt\.index"),
        (hparams(n_layer=1), r"holds model/h1/ln_1/g, but its hparams\.json says n_layer is 1"),
        (entry("model/h1/mlp/c_fc/w", lambda _: None), r"model/h1/mlp/c_fc/w is missing"),
        (entry("model/ln_f/b", lambda value: value + bytes_field(7, b"")), r"model/ln_f/b .* stored in slices"),
        (entry("model/ln_f/b", lambda value: value + int_field(1, 3)), r"model/ln_f/b .* TensorFlow's type 3"),
        (entry("model/ln_f/b", lambda value: value + int_field(5, 63)), r"model/ln_f/b .* has 63 bytes, not the 64"),
        (entry("model/ln_f/b", lambda value: value + int_field(3, 4)), r"data-00004-of-00001 is missing; model/ln_f/b"),
        (entry("model/ln_f/b", lambda value: value + int_field(4, 2**64 - 8)), r"model/ln_f/b in .* begins at byte -8"),
        (entry("model/ln_f/b", lambda value: value[:-1]), r"index cannot be read.*field 6 is cut off"),
        (entry("", lambda value: value + int_field(2, 1)), r"index cannot be read.*big-endian"),
        (entry("", lambda _: None), r"index cannot be read.*how many data files"),
    ],
)
def test_damage_is_named(written: tuple[Path, dict[str, Tensor]], damage: Callable[[Path], None], message: str):
    damage(written[0])
    with pytest.raises(WeightsError, match=message):
        read(written[0])


def test_tensors_of_whole_numbers_are_not_written(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"counts in .* holds torch\.int64"):
        write_bundle(tmp_path / "model.ckpt", {"counts": torch.arange(3)})


def test_a_head_of_its_own_cannot_be_written(tmp_path: Path):
    config = GPT2Config(97, 24, 2, 2, 16, tie_weights=False)
    with pytest.raises(WeightsError, match=r"no output head of its own.*format=huggingface"):
        openai.write(tmp_path, config, random_state(config))
    assert not list(tmp_path.iterdir())


def test_a_state_that_is_not_the_models_is_not_written(tmp_path: Path):
    state = random_state(TINY)
    with pytest.raises(WeightsError, match=r"blocks\.1\.norm1\.bias is missing"):
        openai.write(tmp_path, TINY, {name: v for name, v in state.items() if name != "blocks.1.norm1.bias"})
    with pytest.raises(WeightsError, match=r"hold stray, which a GPT-2 does not have"):
        openai.write(tmp_path, TINY, state | {"stray": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"norm\.bias in the weights to be written has the shape \(3,\)"):
        openai.write(tmp_path, TINY, state | {"norm.bias": torch.ones(3)})


def test_a_head_count_that_contradicts_the_files_is_refused(written: tuple[Path, dict[str, Tensor]]):
    assert read(written[0], n_head=2)[0].n_head == 2
    with pytest.raises(WeightsError, match=r"2 heads, not of n_head=4"):
        read(written[0], n_head=4)
