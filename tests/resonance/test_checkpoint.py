"""Checkpoints are whole, found by name, and opened by other people's programs."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint, CheckpointError, run_folders
from resonance.metadata import Metadata, Monitor
from resonance.model import GPT2, GPT2Config

SIZES = GPT2Config(vocab_size=50257, context_length=32, n_layer=2, n_head=2, n_embd=16, dropout=0.0)


@pytest.fixture(scope="module")
def model() -> GPT2:
    torch.manual_seed(0)
    return GPT2(SIZES).eval()


def save(root: Path, name: str, model: GPT2, **facts: object) -> Checkpoint:
    template = ChatTemplate.named("alpaca")
    return Checkpoint.save(root / name, model, template.tokenizer, replace(Metadata(), **facts))


@pytest.mark.parametrize("tied", [True, False])
def test_loading_gives_the_saved_model_back(tmp_path: Path, tied: bool) -> None:
    model = GPT2(replace(SIZES, tie_weights=tied)).eval()
    loaded = save(tmp_path, "run", model).load_model()
    ids = torch.randint(0, 50257, (2, 9))
    assert loaded.config == model.config
    with torch.no_grad():
        assert torch.equal(loaded(ids), model(ids))


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_opens_the_folder_as_it_is(tmp_path: Path, tied: bool) -> None:
    transformers = pytest.importorskip("transformers")
    model = GPT2(replace(SIZES, tie_weights=tied)).eval()
    folder = save(tmp_path, "run", model).folder
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.randint(0, 50257, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), rtol=0, atol=1e-5)


def test_what_is_known_of_a_checkpoint_survives_on_disk(tmp_path: Path, model: GPT2) -> None:
    monitor = Monitor("val/loss", 1.5)
    save(tmp_path, "run", model, steps=12, data="basics", monitor=monitor)
    opened = Checkpoint.open(tmp_path / "run")
    assert (opened.metadata.steps, opened.metadata.data, opened.metadata.monitor) == (12, "basics", monitor)
    scores = {"instruct": {"exact_match": {"value": 0.5, "n": 8, "ci95": [0.2, 0.8]}}}
    opened.record_scores(scores)
    assert Checkpoint.open(tmp_path / "run").metadata.scores == scores
    assert "| instruct | exact_match | 0.5 |" in (tmp_path / "run" / "README.md").read_text()


def test_latest_and_best_and_names_find_runs(tmp_path: Path, model: GPT2) -> None:
    for age, (name, loss) in enumerate([("new", 2.0), ("middle", 1.0), ("old", 3.0)]):
        folder = save(tmp_path, name, model, monitor=Monitor("val/loss", loss)).folder
        then = time.time() - 100 * age
        os.utime(folder / "model.safetensors", (then, then))
    assert Checkpoint.find("latest", tmp_path).name == "new"
    assert Checkpoint.find("best", tmp_path).name == "middle"
    assert Checkpoint.find("old", tmp_path).name == "old"
    assert Checkpoint.find(tmp_path / "old").name == "old"
    assert [run.name for run in Checkpoint.list(tmp_path)] == ["new", "middle", "old"]


def test_an_unknown_name_is_answered_with_what_there_is(
    tmp_path: Path, model: GPT2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* yet"):
        Checkpoint.find("latest", tmp_path)
    save(tmp_path, "mine", model)
    with pytest.raises(CheckpointError, match=r"'yours'; there are: mine; downloaded base models: none"):
        Checkpoint.find("yours", tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path, model: GPT2) -> None:
    path = save(tmp_path, "run", model).folder / "model.safetensors"
    whole = path.read_bytes()
    for broken in (whole[:-10], whole[: len(whole) // 2], whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="damaged"):
            Checkpoint.open(tmp_path / "run").load_model()


@pytest.mark.parametrize("text", ["[]", "{", '{"steps"', "null"])
def test_metadata_that_cannot_be_read_is_refused(text: str, tmp_path: Path, model: GPT2) -> None:
    folder = save(tmp_path, "run", model).folder
    (folder / "resonance.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"resonance\.json cannot be read"):
        Checkpoint.open(folder)


def test_half_a_checkpoint_is_no_checkpoint(tmp_path: Path, model: GPT2) -> None:
    folder = save(tmp_path, "run", model).folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"not whole: model\.safetensors is missing"):
        Checkpoint.open(folder)
    assert Checkpoint.list(tmp_path) == []
    assert run_folders(tmp_path) == [folder]


def test_a_failed_save_leaves_the_checkpoint_before(tmp_path: Path, model: GPT2) -> None:
    folder = save(tmp_path, "run", model, steps=1).folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    limit = 100_000
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from resonance import GPT2, GPT2Config, ChatTemplate, Checkpoint\n"
        f"Checkpoint.save({str(folder)!r}, GPT2({SIZES!r}), ChatTemplate.named('alpaca').tokenizer)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode != 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_base_model_is_a_checkpoint_too(tmp_path: Path, model: GPT2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path))
    made = save(tmp_path / "weights", "gpt2", model).folder
    for name in ("resonance.json", "README.md", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (made / name).unlink()
    base = Checkpoint.find("gpt2", tmp_path / "none")
    assert base.metadata.template == "alpaca"
    assert base.template().end_id == 50256
    assert base.load_model().num_parameters() == model.num_parameters()
