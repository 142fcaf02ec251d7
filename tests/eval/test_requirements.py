"""`require=`: what is met, what is not, and what is refused before anything runs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eval import EvalError
from eval.requirements import RequirementsNotMet, parse_requirements
from eval.run import main
from resonance.checkpoint import Checkpoint, CheckpointError
from resonance.paths import PROJECT_ROOT

Runs = dict[str, Checkpoint]
SHORT = "task.instruct.max_new_tokens=8"


@pytest.fixture
def learned(runs: Runs, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs["learned"].folder, tmp_path / "learned"))


def evaluate(folder: Path, *settings: str) -> None:
    main([f"checkpoint={folder}", SHORT, "tasks=[instruct,perplexity]", *settings])


@pytest.mark.parametrize(
    "require",
    ["instruct.exact_match>=0.8", "instruct.exact_match >= 80%", "perplexity.perplexity<=1.5", "[instruct.rouge_l>=1]"],
)
def test_a_score_that_is_high_enough_passes(learned: Path, require: str, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(learned, f"require={require}")
    assert "met: " in capsys.readouterr().out


def test_every_requirement_that_falls_short_has_its_line(runs: Runs, tmp_path: Path) -> None:
    fresh = Path(shutil.copytree(runs["fresh"].folder, tmp_path / "fresh"))
    with pytest.raises(RequirementsNotMet) as failure:
        evaluate(fresh, 'require=["instruct.exact_match>=0.8","instruct.exact_match>=0","perplexity.perplexity<=9"]')
    first, *lines = str(failure.value).splitlines()
    assert first == "2 of 3 requirements are not met:"
    assert lines[0] == "instruct.exact_match is 0.0% (0.0–32.4), and >= 80.0% is required."
    assert re.fullmatch(r"perplexity.perplexity is [\d,]+ \(.*\), and <= 9 is required\.", lines[1])
    assert failure.value.exit_code == 1
    assert "instruct" in json.loads((fresh / "eval.json").read_text())["tasks"]  # the scores are kept all the same


def test_no_worse_than_another_is_a_paired_comparison(
    learned: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = Path(shutil.copytree(runs["fresh"].folder, tmp_path / "fresh"))
    evaluate(learned, f"require=instruct.exact_match no worse than {fresh}")
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"no worse than fresh: \+100\.0 p=\.008, n = 8 \(differences from [\d.]+ points on would", out)
    with pytest.raises(RequirementsNotMet, match=r"significantly worse than learned: -100\.0 p=\.008, n = 8"):
        evaluate(fresh, f"require=instruct.exact_match no worse than {learned}")


def test_too_few_items_to_tell_pass_and_say_so(
    runs: Runs, tmp_path: Path, learned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = Path(shutil.copytree(runs["fresh"].folder, tmp_path / "fresh"))
    evaluate(fresh, "limit=3", f"require=instruct.exact_match no worse than {learned}")
    out = " ".join(capsys.readouterr().out.split())
    assert "no worse than learned: -100.0 p=.250, n = 3 (no difference would be detected)" in out


def test_families_have_requirements_too(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ("data=basics", "data.test_size=40", "data.train_size=50")
    evaluate(learned, *data, "require=instruct.by_family.capitals>=0")
    assert "met: instruct.by_family.capitals is" in capsys.readouterr().out


def test_a_task_that_did_not_run_does_not_meet_its_requirement(learned: Path) -> None:
    with pytest.raises(RequirementsNotMet, match="turns did not run: 1 of 1 test examples"):
        evaluate(learned, "limit=1", "tasks=[turns,perplexity]", "require=turns.after_0>=0.1")


@pytest.mark.parametrize(
    ("require", "sentence"),
    [
        ("instruct.exact_match", "is no requirement; write 'TASK.METRIC>=NUMBER'"),
        ("instruct.exact_match>=most", "compares with 'most', which is no number"),
        ("exact_match>=0.5", "needs a task and a score"),
        (
            "instrct.exact_match>=0.5",
            "needs the task 'instrct', which is not among those that run; did you mean 'instruct'",
        ),
        ("rag.contains>=0.5", "needs the task 'rag', which is not among those that run"),
        ("instruct.exact_mach>=0.5", "names no score of instruct; did you mean 'exact_match'"),
        ("instruct.by_family.red>=0.5", "names no score of instruct"),
        ("instruct.exact_match>=80", "is a share between 0 and 1 (or 0% and 100%), so it cannot be >= 80"),
        ("perplexity.perplexity>=10", "is better when lower; write <= instead of >="),
        ("instruct.exact_match<=0.5", "is better when higher; write >= instead of <="),
    ],
)
def test_a_malformed_requirement_is_refused_before_anything_runs(learned: Path, require: str, sentence: str) -> None:
    with pytest.raises(EvalError, match=re.escape(sentence)) as failure:
        evaluate(learned, f"require={require}")
    assert failure.value.exit_code == 2
    assert not (learned / "eval.json").exists()


def test_a_checkpoint_to_compare_with_that_is_not_there_is_refused(learned: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint 'prodction'"):
        evaluate(learned, "require=instruct.exact_match no worse than prodction")


def test_a_number_in_percent_is_a_share() -> None:
    (requirement,) = parse_requirements(["a.by_family.two words >= 12.5 %"])
    assert (requirement.task, requirement.name, requirement.value) == ("a", "by_family.two words", 0.125)


@pytest.mark.slow
def test_the_command_exits_with_1_and_a_line_for_each(runs: Runs, tmp_path: Path) -> None:
    fresh = Path(shutil.copytree(runs["fresh"].folder, tmp_path / "fresh"))
    settings = [f"checkpoint={fresh}", "tasks=[perplexity]", "require=perplexity.perplexity<=9"]
    command = [sys.executable, "-m", "resonance.cli", "eval", *settings]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "Error: 1 of 1 requirements are not met:\nperplexity.perplexity is" in done.stderr
