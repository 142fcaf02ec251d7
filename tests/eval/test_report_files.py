"""The report made again from the files of an evaluation, without a model."""

import json
import re
import shutil
from pathlib import Path

import pytest

from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.report.read import read_report
from eval.run import main
from resonance.checkpoint import Checkpoint

Runs = dict[str, Checkpoint]


@pytest.fixture(scope="module")
def evaluated(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run evaluated in two commands, the first of which compared it with another model."""
    folder = Path(shutil.copytree(runs["learned"].folder, tmp_path_factory.mktemp("evaluated") / "learned"))
    main([f"checkpoint={folder}", "tasks=[instruct]", "task.instruct.max_new_tokens=8", "compare=[untrained]"])
    main([f"checkpoint={folder}", "tasks=[perplexity]"])
    return folder


@pytest.fixture
def copy(evaluated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(evaluated, tmp_path / "learned"))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(EvaluatedModel, "load", load)


def test_the_report_of_a_later_task_has_the_earlier_ones_too(evaluated: Path) -> None:
    text = (evaluated / "report.md").read_text(encoding="utf-8")
    assert "| instruct | exact match | 8 | 100.0%" in text
    assert "| perplexity | perplexity | 8 |" in text


def test_report_only_makes_the_reports_again_without_a_model(copy: Path, no_model: None) -> None:
    before = (copy / "eval.json").read_bytes()
    for name in ("report.html", "report.md"):
        (copy / name).unlink()
    main([f"checkpoint={copy}", "report_only=true"])
    text = (copy / "report.md").read_text(encoding="utf-8")
    assert "| instruct | exact match | 8 | 100.0% (67.6–100.0) | 0.0% (0.0–32.4) | +100.0 p=.008 |" in text
    assert "| perplexity | perplexity | 8 |" in text
    assert "<h1>Evaluation of learned</h1>" in (copy / "report.html").read_text(encoding="utf-8")
    assert (copy / "eval.json").read_bytes() == before


def test_provenance_stands_in_the_report(evaluated: Path) -> None:
    document = json.loads((evaluated / "eval.json").read_text(encoding="utf-8"))
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    assert document["weights_sha256"] in page
    assert document["provenance"]["instruct"]["records_sha256"][:12] in page


def test_only_the_models_that_were_compared_can_be_named(copy: Path, no_model: None) -> None:
    assert read_report(copy, Checkpoint.open(copy), ["untrained"]).labels == ["learned", "untrained"]
    assert read_report(copy, Checkpoint.open(copy), []).labels == ["learned"]
    with pytest.raises(EvalError, match=re.escape("No evaluation of 'other' is kept")):
        main([f"checkpoint={copy}", "report_only=true", "compare=[other]"])


def test_another_version_of_a_task_is_not_compared(copy: Path) -> None:
    path = copy / "eval" / "compare" / "untrained" / "eval.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["provenance"]["instruct"]["version"] += 1
    path.write_text(json.dumps(document), encoding="utf-8")
    rows = read_report(copy, Checkpoint.open(copy)).rows
    assert all(row.differences == (None,) for row in rows)


def test_records_that_were_edited_are_told(copy: Path) -> None:
    path = copy / "eval" / "instruct.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("blue", "BLUE"), encoding="utf-8")
    notes = read_report(copy, Checkpoint.open(copy)).notes
    assert any("instruct.jsonl has changed since" in note for note in notes)


def test_without_an_evaluation_there_is_no_report(runs: Runs, no_model: None) -> None:
    with pytest.raises(EvalError, match=r"There is no .*eval.json; evaluate first"):
        main([f"checkpoint={runs['learned'].folder}", "report_only=true"])


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"provenance": {"instruct": {}}, "not_run": {}}'])
def test_a_damaged_eval_json_gets_a_sentence(copy: Path, damage: str) -> None:
    (copy / "eval.json").write_text(damage)
    with pytest.raises(EvalError, match=r"eval\.json .*evaluate again"):
        main([f"checkpoint={copy}", "report_only=true"])
