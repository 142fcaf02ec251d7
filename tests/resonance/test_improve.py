"""`resonance improve`, with the real commands in this process: stages, kills between them, the lock, the report."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from resonance.aliases import AliasError, read_aliases
from resonance.checkpoint import Checkpoint
from resonance.cli import promote
from resonance.cli.improve import main
from resonance.hydra_config import compose
from resonance.improve import stages
from resonance.improve.children import StageFailed, run_command
from resonance.improve.journal import attempts, begin
from resonance.improve.lock import only_one
from resonance.improve.run import Outcome, improve
from resonance.improve.settings import settings_of
from tests.resonance.feedback_stores import fill, fill_thumbs, fill_votes

TINY = [
    "model.n_layer=1", "model.n_head=2", "model.n_embd=16", "model.context_length=64", "batch.size=2",
    "data.train_size=60", "data.validation_size=26", "data.test_size=26", "trainer.max_steps=2", "logger=none",
    "callbacks.samples.every_n_steps=0", "callbacks.progress=false", "callbacks.report=false", "data_cache=false",
]  # fmt: skip
OVERRIDES = ["callbacks.progress=false", "callbacks.report=false", "data_cache=false"]
SHORT_STEPS = ["batch.size=2", "save.every_n_steps=20", "save.best=false"]
QUICK = [
    "screen=false", "verify=false", "suite.tasks=[instruct]", "train.passes=1", "limits.free_gb=0",
    f"train.overrides=[{','.join(OVERRIDES)}]",
]  # fmt: skip


NO_STORE = "sqlite:////nowhere/conversations.sqlite"


class Killed(BaseException):
    """What ends the process in the middle of a stage."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny run that is in production."""
    from train.run import main as train

    root = tmp_path_factory.mktemp("improve") / "runs"
    train([f"checkpoints_dir={root}", "run=first", *TINY])
    promote.main([f"root={root}", "verify=false", "run=first"])
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of 90 corrections by somebody who agreed; a fifth of the conversations is held out."""
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RESONANCE_API_KEYS", raising=False)
    url = f"sqlite:///{tmp_path / 'conversations.sqlite'}"
    fill(url, 0, 90)
    return url


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages' commands run in this process, which spares their imports; returns the logs' names as they begin."""
    begun: list[str] = []

    def run_command(folder: Path, name: str, words: Sequence[str], **more: Any) -> str:
        from eval.run import main as evaluate
        from resonance.hydra_config import config_folders, use_config_folders
        from serve.feedback import main as feedback
        from train.run import main as train

        begun.append(name)
        mains: dict[str, Callable[[list[str]], object]] = {"feedback": feedback, "train": train, "eval": evaluate}
        overrides = ["action=export" if word == "export" else word for word in words[1:]]
        folders = [word.partition("=")[2] for word in overrides if word.startswith("--config-dir")]
        before = config_folders()
        if folders:
            use_config_folders([], folders)
        environment = more.get("environment") or {}
        if words[0] == "feedback":
            overrides.append(f"store.url={environment['DATABASE_URL']}")
        try:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                mains[words[0]]([word for word in overrides if not word.startswith("--")])
        finally:
            use_config_folders(*before)
        return printed.getvalue()

    monkeypatch.setattr(stages, "run_command", run_command)
    return begun


def once(root: Path, store: str, *words: str) -> Outcome:
    from rich.console import Console

    config = compose("improve", [f"root={root}", f"store.url={store}", *QUICK, *words])
    return improve(settings_of(config), Console(file=io.StringIO()))


@pytest.mark.slow
def test_an_attempt_is_killed_twice_goes_on_and_ends_at_the_gate(
    root: Path, store: str, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stages.run_command

    def killed_after(name: str) -> None:
        def run_command(folder: Path, log: str, words: Sequence[str], **more: Any) -> str:
            printed = whole(folder, log, words, **more)
            if log == name:
                raise Killed
            return printed

        monkeypatch.setattr(stages, "run_command", run_command)

    loose = "gate.effect=0.9"  # a tiny model learns nothing; the gate is to be reached
    killed_after("train-sft")
    with pytest.raises(Killed):
        once(root, store, loose)
    killed_after("evaluate-held_out")
    with pytest.raises(Killed):
        once(root, store, loose)
    monkeypatch.setattr(stages, "run_command", whole)
    outcome = once(root, store, loose)
    assert ran == ["gather", "train-sft", "train-sft", "evaluate-held_out", "evaluate-held_out", "evaluate-standing"]
    assert outcome.result == "refused"
    assert "Not better on held-out feedback" in outcome.sentence
    (attempt,) = attempts(root, "production")
    assert (root / attempt.name / "model.safetensors").is_file()
    assert attempt.values["stages"]["train"]["processor_seconds"] > 0
    assert read_aliases(root)["production"].current.run == "first"
    assert outcome.report is not None
    page = outcome.report.read_text()
    assert "not promoted" in page
    assert "What is " in page  # a held-out question
    assert outcome.report.stat().st_mode & 0o777 == 0o600
    assert (root / attempt.name / "improve.html").is_file()
    # Nothing new has been said: no second look at the same answers. With new judgements, at a stricter level.
    again = once(root, store, loose)
    assert again.result == "nothing"
    assert "Nobody has judged anything since" in again.sentence
    figures = attempt.figures("evaluate")
    assert figures is not None
    assert figures["reused"] == {}
    fill(store, 200, 60)
    second = once(root, store, loose)
    assert "the level of attempt 2" in second.sentence
    latest = attempts(root, "production")[-1].figures("evaluate")
    assert latest is not None
    # The checkpoint in service, the suite and its data are the same, so its scores are those of the first attempt.
    (reused,) = latest["reused"].items()
    measured = json.loads((root / attempt.name / "eval" / "compare" / "first" / "eval.json").read_text())
    source = {"from": str(root / attempt.name / "eval" / "compare" / "first")}
    assert reused == ("instruct", source | {"measured_at": measured["provenance"]["instruct"]["created_at"]})
    before = {each["metric"]: each["before"] for each in figures["standing"]}
    assert {each["metric"]: each["before"] for each in latest["standing"]} == before
    assert second.report is not None
    assert "reused: measured at" in second.report.read_text()


@pytest.mark.slow
def test_a_candidate_that_passes_is_promoted_with_its_evidence(root: Path, store: str, ran: list[str]) -> None:
    loose = ["gate.effect=0.9", "promote=false"]
    assert once(root, store, *loose).result == "refused"
    (attempt,) = attempts(root, "production")
    checks = attempt.values["stages"]["gate"]["checks"]
    for check in checks:  # as if it had been better
        check["passed"] = True
    attempt.values["outcome"] = None
    (attempt.folder / "journal.json").write_text(json.dumps(attempt.values))
    assert once(root, store, *loose).result == "ready"
    attempt.values["outcome"] = None
    (attempt.folder / "journal.json").write_text(json.dumps(attempt.values))
    outcome = once(root, store, "gate.effect=0.9")
    assert outcome.result == "promoted"
    move = read_aliases(root)["production"].current
    assert (move.run, move.before) == (attempt.name, "first")
    assert {"improved from", "attempt", "feedback_until", "better on held-out feedback"} <= set(move.evidence)
    # It has learned from everything that was said; what is said from now on is new.
    assert "no new feedback since the last promotion" in once(root, store).sentence
    fill(store, 200, 30)
    dry = once(root, store, "dry=true", "gate.effect=0.9")
    assert dry.result == "nothing"
    assert len(attempts(root, "production")) == 2  # the dry one left nothing


@pytest.mark.slow
@pytest.mark.parametrize("corrections", [0, 60])
def test_votes_train_by_dpo_after_corrections_by_sft_and_a_kill_in_that_stage_is_gone_on_from(
    root: Path, tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch, corrections: int
) -> None:
    store = f"sqlite:///{tmp_path / 'votes.sqlite'}"
    fill_votes(store, 60)
    fill(store, 0, corrections)
    whole = stages.run_command

    def killed_in_dpo(folder: Path, log: str, words: Sequence[str], **more: Any) -> str:
        printed = whole(folder, log, words, **more)
        if log == "train-dpo":
            raise Killed
        return printed

    loose = "gate.effect=0.9"
    monkeypatch.setattr(stages, "run_command", killed_in_dpo)
    with pytest.raises(Killed):
        once(root, store, loose)
    monkeypatch.setattr(stages, "run_command", whole)
    outcome = once(root, store, loose)
    assert outcome.result == "refused", outcome.sentence
    sft = ["train-sft"] if corrections else []
    held_out = ["evaluate-held_out"] if corrections else []
    # What is done is resumed at its end, which takes no step.
    assert ran == [
        "gather", *sft, "train-dpo", *sft, "train-dpo", *held_out, "evaluate-pairs", "evaluate-standing",
    ]  # fmt: skip
    (attempt,) = attempts(root, "production")
    figures = attempt.figures("train")
    assert figures is not None
    assert figures["objectives"] == ([*(["sft"] if corrections else []), "dpo"])
    # Votes alone are judged by held-out votes: how often the better answer is the likelier one.
    assert ("exact_match " if corrections else "acc ") in outcome.sentence
    assert Checkpoint.open(root / attempt.name).metadata.steps > 0


@pytest.mark.slow
def test_thumbs_alone_train_by_kto_and_are_judged_by_held_out_thumbs_down(
    root: Path, tmp_path: Path, ran: list[str]
) -> None:
    store = f"sqlite:///{tmp_path / 'thumbs.sqlite'}"
    fill_thumbs(store, 120)
    outcome = once(root, store, "gate.effect=0.9")
    assert ran == [
        "gather", "train-kto", "evaluate-held_out", "evaluate-rejected", "evaluate-standing",
    ]  # fmt: skip
    assert "bits per byte of answers that people rejected" in outcome.sentence
    (attempt,) = attempts(root, "production")
    gathered, trained, checked = (attempt.figures(name) for name in ("gather", "train", "check"))
    assert gathered is not None
    assert trained is not None
    assert checked is not None
    assert trained["objectives"] == ["kto"]
    down = gathered["rejections"]
    assert f"Thumbs alone ({gathered['thumbs'] - down} up and {down} down; 0 corrections and 0" in checked["learns"]
    assert attempt.learned_from == gathered["thumbs"]
    assert "train.objectives.KTO" in (root / attempt.name / "train.yaml").read_text()
    assert outcome.report is not None
    assert checked["learns"] in outcome.report.read_text()


@pytest.mark.slow
def test_dpo_that_is_killed_between_two_steps_ends_with_the_weights_of_one_that_was_left_alone(
    root: Path, tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{tmp_path / 'votes.sqlite'}"
    fill_votes(store, 60)
    steps = ["gate.effect=0.9", "train.passes=4", f"train.overrides=[{','.join([*OVERRIDES, *SHORT_STEPS])}]"]
    alone = Path(shutil.copytree(root, tmp_path / "alone"))
    undisturbed = once(alone, store, *steps)
    in_process = stages.run_command

    def killed_at_its_first_save(folder: Path, log: str, words: Sequence[str], **more: Any) -> str:
        if log != "train-dpo":
            return in_process(folder, log, words, **more)

        def kill() -> None:
            while not (root / folder.name / "last.ckpt").is_file():
                time.sleep(0.002)
            os.kill(json.loads((folder / "child.json").read_text())["pid"], signal.SIGKILL)

        with ThreadPoolExecutor(1) as pool:
            killed = pool.submit(kill)
            try:
                return run_command(folder, log, words, **more)
            finally:
                killed.result()

    monkeypatch.setattr(stages, "run_command", killed_at_its_first_save)
    with pytest.raises(StageFailed, match="exit code -9"):
        once(root, store, *steps)
    (attempt,) = attempts(root, "production")
    (before,) = attempts(alone, "production")
    whole = Checkpoint.open(alone / before.name)
    assert attempt.figures("train") is None
    assert 0 < Checkpoint.open(root / attempt.name).metadata.steps < whole.metadata.steps
    monkeypatch.setattr(stages, "run_command", in_process)
    resumed = once(root, store, *steps)
    assert Checkpoint.open(root / attempt.name).crc32 == whole.crc32
    assert resumed.result == undisturbed.result == "refused"
    assert resumed.sentence.replace(attempt.name, "") == undisturbed.sentence.replace(before.name, "")
    compared = [each.figures("evaluate") for each in attempts(root, "production")]
    assert compared[0] is not None
    expected = before.figures("evaluate")
    assert expected is not None
    assert compared[0]["standing"] == expected["standing"]


def test_too_little_feedback_trains_nothing(root: Path, store: str, ran: list[str]) -> None:
    outcome = once(root, store, "gate.effect=0.1")
    assert outcome.result == "nothing"
    assert "more judged answers" in outcome.sentence
    assert ran == ["gather"]


def test_attempts_that_begin_within_a_second_have_names_of_their_own(tmp_path: Path) -> None:
    begun = [begin(tmp_path, "production", "first", "1") for _ in range(2)]
    assert [each.name for each in attempts(tmp_path, "production")] == [each.name for each in begun]


def test_two_are_never_at_work(root: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from resonance.improve.lock import only_one
with only_one(Path({str(root)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        outcome = once(root, NO_STORE)
        assert (outcome.result, f"as process {other.pid}" in outcome.sentence) == ("nothing", True)
        other.kill()
    with only_one(root):  # the system has freed it
        pass


def test_what_is_no_alias_cannot_be_improved(root: Path) -> None:
    with pytest.raises(AliasError, match="checkpoint=first is no alias"):
        once(root, NO_STORE, "checkpoint=first")


def test_nothing_begins_in_quiet_hours(root: Path) -> None:
    now = datetime.now(UTC).astimezone()
    hours = f"{now - timedelta(minutes=5):%H:%M}-{now + timedelta(minutes=5):%H:%M}"
    with pytest.raises(SystemExit) as ended:
        main([f"root={root}", f"store.url={NO_STORE}", f"quiet_hours='{hours}'"])
    assert ended.value.code == 3
    assert not (root / ".improve").exists()
