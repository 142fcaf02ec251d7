import os
from pathlib import Path

import pytest
from huggingface_hub import constants

from resonance.model import GPT2
from resonance.weights import WeightsError, huggingface, read, read_config, resolve


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "home"


def test_a_folder_of_something_else_says_what_was_found_and_what_is_wanted(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "model.bin").write_bytes(b"\0")
    with pytest.raises(
        WeightsError, match=r"found model\.bin, notes\.txt; wanted .*config\.json.*hparams\.json.*\.pth"
    ):
        read(tmp_path)


def test_an_empty_folder_says_so(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"found nothing; wanted"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        (("config.json", "pytorch_model.bin"), r"no model\.safetensors; found config\.json, pytorch_model\.bin"),
        (("checkpoint",), r"hparams\.json is missing"),
        (("model.safetensors",), r"config\.json is missing"),
    ],
)
def test_half_a_layout_says_what_is_missing(tmp_path: Path, held: tuple[str, ...], missing: str):
    for name in held:
        (tmp_path / name).write_text("{}")
    with pytest.raises(WeightsError, match=missing):
        read(tmp_path)


def test_a_file_of_another_kind_or_none_at_all_is_refused(tmp_path: Path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(WeightsError, match=r"a\.gguf is not a file of weights that we read; wanted"):
        read(tmp_path / "a.gguf")
    with pytest.raises(WeightsError, match=r"b\.pth does not exist"):
        read(tmp_path / "b.pth")


def test_an_existing_path_is_itself(tmp_path: Path):
    assert resolve(tmp_path) == resolve(str(tmp_path)) == tmp_path


def test_a_name_that_is_not_downloaded_tells_the_command(home: Path):
    with pytest.raises(WeightsError, match=r"gpt2-large is not downloaded.*run: resonance weights gpt2-large"):
        GPT2.from_pretrained("gpt2-large")
    (home / "weights" / "gpt2-large").mkdir(parents=True)
    (home / "weights" / "gpt2-large" / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"gpt2-large is downloaded only in part.*resonance weights gpt2-large"):
        resolve("gpt2-large")


def test_an_unknown_name_lists_the_known_ones(home: Path):
    with pytest.raises(WeightsError, match=r"no file or folder gpt3.*gpt2, gpt2-medium, gpt2-large, gpt2-xl"):
        resolve("gpt3")


def test_a_folder_under_the_home_is_found_by_its_name(home: Path, shared_data: Path):
    (home / "weights").mkdir(parents=True)
    (home / "weights" / "gpt2").symlink_to(shared_data / "openai-gpt2-tiny")
    assert GPT2.from_pretrained("gpt2").config.n_embd == 48


@pytest.mark.parametrize("layout", ["openai-gpt2-tiny", "book-gpt2-tiny", "huggingface"])
def test_the_configuration_alone_is_the_one_that_comes_with_the_tensors(layout: str, shared_data: Path, tmp_path: Path):
    folder = shared_data / layout
    if layout == "huggingface":
        folder = tmp_path
        huggingface.write(folder, *read(shared_data / "book-gpt2-tiny"))
    assert read_config(folder) == read(folder)[0]
    with pytest.raises(WeightsError, match="n_head"):
        read_config(folder, n_head=5)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_the_system_does_not_let_us_read_is_an_error_of_ours(shared_data: Path, tmp_path: Path):
    huggingface.write(tmp_path, *read(shared_data / "openai-gpt2-tiny"))
    (tmp_path / "config.json").chmod(0)
    with pytest.raises(WeightsError, match=r"config\.json cannot be read"):
        read(tmp_path)
