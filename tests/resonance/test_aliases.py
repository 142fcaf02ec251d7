"""`resonance promote` moves an alias between runs, keeps a log of it, and the alias names its run everywhere."""

import json
import multiprocessing
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resonance import aliases
from resonance.aliases import AliasError, read_aliases
from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint, CheckpointError
from resonance.cli import promote
from resonance.errors import ResonanceError
from resonance.hydra_config import ConfigError
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config

SIZES = GPT2Config(vocab_size=50257, context_length=32, n_layer=1, n_head=2, n_embd=8, dropout=0.0)


def save(root: Path, name: str, seed: int = 0) -> Checkpoint:
    torch.manual_seed(seed)
    return Checkpoint.save(
        root / name, GPT2(SIZES), ChatTemplate.named("alpaca").tokenizer, replace(Metadata(), data="basics")
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("first", "second", "third")):
        save(folder, name, seed)
    return folder


@pytest.fixture
def root(tmp_path: Path, runs: Path) -> Path:
    return Path(shutil.copytree(runs, tmp_path / "checkpoints"))


def run(root: Path, *words: str) -> None:
    promote.main([f"root={root}", "verify=false", *words])


def test_the_alias_names_the_promoted_run_wherever_a_checkpoint_is_found(root: Path) -> None:
    run(root, "run=first")
    assert Checkpoint.find("production", root).name == "first"
    assert Checkpoint.find_named("production", root).name == "first"
    run(root, "run=second", "note=better")
    assert Checkpoint.find("production", root).name == "second"
    log = read_aliases(root)["production"].log
    assert [(move.before, move.run, move.back) for move in log] == [(None, "first", False), ("first", "second", False)]
    assert log[1].evidence["note"] == "better"
    assert log[1].evidence["verified"] is False
    assert log[1].by
    assert log[1].at.endswith("Z")


def test_going_back_undoes_promotions_one_after_another(root: Path) -> None:
    for name in ("first", "second", "third"):
        run(root, f"run={name}")
    for expected in ("second", "first"):
        run(root, "back=true")
        assert Checkpoint.find("production", root).name == expected
    with pytest.raises(AliasError, match="no other run before first"):
        run(root, "back=true")
    run(root, "run=third")
    run(root, "back=true")
    assert Checkpoint.find("production", root).name == "first"


def test_a_run_that_has_changed_since_it_was_promoted_is_refused_and_never_gone_back_to(root: Path) -> None:
    run(root, "run=first")
    run(root, "run=second")
    save(root, "second", 7)
    with pytest.raises(CheckpointError, match="weights have changed since it was promoted"):
        Checkpoint.find("production", root)
    run(root, "run=second")
    assert Checkpoint.find("production", root).name == "second"
    run(root, "back=true")  # not to what `second` was, which is gone
    assert Checkpoint.find("production", root).name == "first"
    run(root, "run=third")
    save(root, "first", 8)
    with pytest.raises(AliasError, match="is gone or has other weights now: first"):
        run(root, "back=true")


def test_a_run_that_is_gone_is_said_to_be(root: Path) -> None:
    run(root, "run=first")
    (root / "first" / "resonance.json").unlink()
    with pytest.raises(CheckpointError, match="'first', which is no longer"):
        Checkpoint.find("production", root)


def test_the_log_is_listed_as_a_table_and_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, "run=first")
    run(root, "run=second", "note=on trial")
    run(root, "back=true")
    capsys.readouterr()
    run(root, "list=true")
    table = capsys.readouterr().out
    assert "second (back)" in table
    assert "on trial" in table
    run(root, "list=true", "json=true")
    assert [move["run"] for move in json.loads(capsys.readouterr().out)] == ["first", "second", "first"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Say one thing to do"),
        (["run=first", "back=true"], "Say one thing to do"),
        (["run=nothing"], "There is no checkpoint 'nothing'"),
        (["run=first", "alias=Production"], "lower-case letters"),
        (["run=first", "alias=second"], "a checkpoint is called so already"),
        (["run=first", "alias=latest"], "a checkpoint is called so already"),
        (["back=true"], "There is no alias 'production'"),
        (["list=true"], "there is none yet"),
    ],
)
def test_what_cannot_be_moved_is_refused_in_a_sentence(root: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(ResonanceError, match=sentence):
        run(root, *words)
    assert read_aliases(root) == {}


@pytest.mark.slow
def test_a_run_that_does_not_hold_what_it_claims_is_not_promoted(root: Path) -> None:
    weights = root / "first" / "merges.txt"
    weights.write_text(weights.read_text() + "x y\n")
    with pytest.raises(AliasError, match="`resonance verify` fails"):
        promote.main([f"root={root}", "run=first"])
    assert read_aliases(root) == {}


def test_an_alias_that_somebody_else_has_moved_is_not_overwritten(root: Path) -> None:
    run(root, "run=first")
    with pytest.raises(AliasError, match="production is first by now, not second"):
        aliases.promote(root, "production", "third", "00000000", {}, before="second")
    assert Checkpoint.find("production", root).name == "first"


def _promote_often(root: Path, name: str) -> None:
    moved = 0
    while moved < 20:
        alias = read_aliases(root).get("production")
        try:
            aliases.promote(root, "production", name, name, {}, before=alias and alias.current.run)
        except AliasError:  # the other process was first
            continue
        moved += 1


def test_two_processes_that_promote_at_once_lose_no_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_promote_often, args=(tmp_path, name)) for name in ("one", "two")]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert len(read_aliases(tmp_path)["production"].log) == 40


def test_a_damaged_file_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "aliases.json").write_text("{")
    with pytest.raises(AliasError, match="cannot be read"):
        read_aliases(tmp_path)


def test_no_run_is_trained_under_the_name_of_an_alias(root: Path) -> None:
    from train.run_config import check_unused

    run(root, "run=first")
    with pytest.raises(ConfigError, match="'production' is an alias"):
        check_unused(root / "production", overwrite=True)
