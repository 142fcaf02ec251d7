"""`resonance eval` with the tasks scored by likelihood: overlap with the training data, files, malformed lines."""

import json
import shutil
from pathlib import Path

import pytest

from eval import EvalError
from eval.run import main
from resonance.checkpoint import Checkpoint

Runs = dict[str, Checkpoint]


@pytest.fixture
def learned(runs: Runs, tmp_path: Path) -> Path:
    """A copy of the run to write scores into."""
    return Path(shutil.copytree(runs["learned"].folder, tmp_path / "learned"))


def document(folder: Path) -> dict[str, dict[str, dict[str, object]]]:
    return json.loads((folder / "eval.json").read_text(encoding="utf-8"))


def retrain_on(folder: Path, colour_file: Path, tmp_path: Path, instruction: str, output: str) -> None:
    """Pretend that the run's training split has this example instead of its own."""
    rows = json.loads(colour_file.read_text(encoding="utf-8"))
    rows[0] = {"instruction": instruction, "output": output}
    file = tmp_path / "colours.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    train_yaml = (folder / "train.yaml").read_text(encoding="utf-8")
    (folder / "train.yaml").write_text(train_yaml.replace(str(colour_file), str(file)), encoding="utf-8")


def test_items_that_stand_in_the_training_data_are_reported_with_the_score_without_them(
    learned: Path, colour_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retrain_on(learned, colour_file, tmp_path, "Tell me. What colour is sky?", "blue, as you know")
    main([f"checkpoint={learned}", "tasks=[cloze,instruct]", "task.instruct.max_new_tokens=8"])
    for task, metric in (("cloze", "accuracy"), ("instruct", "exact_match")):
        found = document(learned)["contamination"][task]
        assert (found["ngram"], found["items"], found["touched"], found["share"]) == (13, 8, 1, 0.125)
        untouched = found["untouched"]
        assert isinstance(untouched, dict)
        assert untouched[metric]["n"] == 7
    note = "cloze: 1 of 8 items (12.5%) overlap with the training data"
    assert note in capsys.readouterr().out
    report = (learned / "report.html").read_text(encoding="utf-8")
    assert "Overlap with the training data" in report
    assert "1 of 8 (by 13 words in a row)" in report
    main([f"checkpoint={learned}", "tasks=[cloze]", "contamination=null", "fresh=true"])
    assert list(document(learned)["contamination"]) == ["instruct"]


def test_without_overlap_the_share_is_zero_and_nothing_is_noted(
    learned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([f"checkpoint={learned}", "tasks=[cloze]", "contamination.ngram=3"])
    assert document(learned)["contamination"] == {"cloze": {"ngram": 3, "items": 8, "touched": 0, "share": 0.0}}
    assert "overlap with" not in capsys.readouterr().out


def test_an_example_that_training_leaves_out_is_no_overlap(learned: Path, colour_file: Path, tmp_path: Path) -> None:
    retrain_on(learned, colour_file, tmp_path, "What colour is sky?", "blue")
    main([f"checkpoint={learned}", "tasks=[cloze]"])
    assert document(learned)["contamination"]["cloze"]["touched"] == 0


def test_a_model_without_training_data_says_that_nothing_was_checked(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (learned / "train.yaml").unlink()
    passages = tmp_path / "passages.txt"
    passages.write_text("One passage.\nAnother passage of words.\n", encoding="utf-8")
    main([f"checkpoint={learned}", "tasks=[cloze,choice]", f"task.cloze.path={passages}", *_choice(tmp_path)])
    assert document(learned)["contamination"] == {}
    assert set(document(learned)["tasks"]) == {"cloze", "choice"}  # files of one's own need no test split
    assert "Overlap with the training data was not checked: learned does not say" in capsys.readouterr().out


def test_a_malformed_line_ends_its_task_and_the_rest_goes_on(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "fine here"}\n{"text": \n', encoding="utf-8")
    main([f"checkpoint={learned}", "tasks=[cloze,choice,forgetting]", f"task.cloze.path={broken}", *_choice(tmp_path)])
    reasons = document(learned)["not_run"]
    assert str(reasons["cloze"]).startswith(f"{broken}, line 2: Expecting value at column")
    assert str(reasons["forgetting"]).startswith("learned was not fine-tuned")
    assert set(document(learned)["tasks"]) == {"choice"}
    assert "cloze did not run" in capsys.readouterr().out


def test_a_command_with_nothing_but_malformed_files_ends_with_the_first_bad_line(learned: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "Q", "choices": ["a", "b"], "answer": 7}\n', encoding="utf-8")
    with pytest.raises(EvalError, match=r"broken\.jsonl, line 1: the field 'answer' is 7") as failure:
        main([f"checkpoint={learned}", "tasks=[choice,text]", f"task.choice.path={broken}", "task.text.path=gone.txt"])
    assert failure.value.exit_code == 2


def test_a_bad_setting_ends_the_command(learned: Path) -> None:
    with pytest.raises(EvalError, match=r"contamination\.ngram must be at least 1, not 0"):
        main([f"checkpoint={learned}", "tasks=[choice]", "contamination.ngram=0"])
    assert not (learned / "eval.json").exists()
    with pytest.raises(EvalError, match="format must be chat or raw, not 'letters'"):
        main([f"checkpoint={learned}", "tasks=[choice]", "task.choice.format=letters"])


def _choice(folder: Path) -> list[str]:
    file = folder / "choice.jsonl"
    rows = [
        {"question": f"What colour is {thing}?", "choices": ["blue", "red"], "answer": 0} for thing in ("sky", "sea")
    ]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return [f"task.choice.path={file}"]
