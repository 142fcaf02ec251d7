"""`resonance verify` derives scores from records, items from data and, on request, all of it from a new run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval import run
from eval.records import read_records, records_path, records_sha256
from eval.verification.scores import claimed_scores, derived_scores
from eval.verify import main
from resonance.checkpoint import Checkpoint

Runs = dict[str, Checkpoint]
Outcomes = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def evaluated(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound checkpoint with scores, beside its data."""
    folder = tmp_path_factory.mktemp("evaluated") / "learned"
    shutil.copytree(runs["learned"].folder, folder)
    (config,) = (line for line in (folder / "train.yaml").read_text().splitlines() if "path:" in line)
    data = shutil.copy(config.partition(":")[2].strip(), folder.parent / "colours.json")
    (folder / "train.yaml").write_text((folder / "train.yaml").read_text().replace(config, f"  path: {data}"))
    run.main([f"checkpoint={folder}", "tasks=[instruct,perplexity]", "task.instruct.max_new_tokens=8"])
    return folder


@pytest.fixture
def learned(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of it, with a copy of its data."""
    folder = Path(shutil.copytree(evaluated, tmp_path / "learned"))
    data = shutil.copy(evaluated.parent / "colours.json", tmp_path / "colours.json")
    path = folder / "train.yaml"
    path.write_text(path.read_text().replace(str(evaluated.parent / "colours.json"), str(data)))
    return folder


def verify(folder: Path, *settings: str) -> tuple[int, Outcomes]:
    path = folder.parent / "verified.json"
    code = 0
    try:
        main([f"checkpoint={folder}", "server=false", "transformers=false", f"json={path}", *settings])
    except SystemExit as end:
        assert isinstance(end.code, int)
        code = end.code
    claims = json.loads(path.read_text(encoding="utf-8"))["claims"]
    return code, {claim["name"]: claim for claim in claims}


def failing(outcomes: Outcomes) -> set[str]:
    return {name for name, claim in outcomes.items() if claim["outcome"] == "does not hold"}


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def edit_records(folder: Path, task: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Edit a task's records, and refresh their hash."""
    path = records_path(folder, task)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    change(records)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    digest = records_sha256(path)
    edit_json(folder / "eval.json", lambda found: found["provenance"][task].update(records_sha256=digest))


def publish_scores_of_records(folder: Path, task: str) -> None:
    """Make eval.json, resonance.json and the card say what edited records say."""
    (claimed,) = (each for each in claimed_scores(Checkpoint.open(folder)) if each.task == task)
    assert claimed.entry is not None
    scores = derived_scores(claimed.entry, read_records(records_path(folder, task)))
    edit_json(folder / "eval.json", lambda found: found["tasks"].update({task: scores}))
    headline = {name: score for name, score in scores.items() if "value" in score}
    Checkpoint.open(folder).record_scores({task: headline})


def forget(record: dict[str, Any]) -> None:
    record["observations"]["exact_match"] = [0.0, 1.0]


def test_the_scores_and_items_of_a_sound_checkpoint_hold(learned: Path) -> None:
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (0, set())
    for task in ("instruct", "perplexity"):
        assert outcomes[f"scores: {task}"]["outcome"] == "holds"
        assert outcomes[f"items: {task}"]["why"] == "the same 8 items, with the same prompt ids"
    assert outcomes["scores: instruct"]["why"].endswith(" scores, such as exact_match 1, from 8 records")
    assert "scores: instruct" in (learned / "README.md").read_text()


def test_a_score_edited_in_the_checkpoints_record_is_found(learned: Path) -> None:
    edit_json(learned / "resonance.json", lambda found: found["scores"]["perplexity"]["perplexity"].update(value=1.0))
    code, outcomes = verify(learned)
    assert code == 1
    assert failing(outcomes) == {"scores: perplexity", "card"}
    assert "resonance.json and eval.json disagree: perplexity is 1.0 and" in outcomes["scores: perplexity"]["why"]


@pytest.mark.parametrize("key, value", [("value", 0.875), ("n", 800), ("ci95", [0.99, 1.0])])
def test_a_score_edited_everywhere_is_found_by_the_records(learned: Path, key: str, value: object) -> None:
    edit_json(learned / "eval.json", lambda found: found["tasks"]["instruct"]["exact_match"].update({key: value}))
    scores = json.loads((learned / "eval.json").read_text(encoding="utf-8"))["tasks"]["instruct"]
    Checkpoint.open(learned).record_scores({"instruct": {k: score for k, score in scores.items() if "value" in score}})
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (1, {"scores: instruct"})
    assert outcomes["scores: instruct"]["why"].startswith("the records give other scores than eval.json: exact_match")


def test_edited_records_are_found_by_their_hash(learned: Path) -> None:
    path = records_path(learned, "instruct")
    path.write_text(path.read_text(encoding="utf-8").replace('"blue"', '"teal"'), encoding="utf-8")
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (1, {"scores: instruct"})
    assert "is not the file of records that the evaluation wrote" in outcomes["scores: instruct"]["why"]


def test_edited_records_with_a_refreshed_hash_are_found_by_the_scores(learned: Path) -> None:
    edit_records(learned, "instruct", lambda records: forget(records[0]))
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (1, {"scores: instruct"})
    assert "exact_match is 1.0 and 0.875" in outcomes["scores: instruct"]["why"]


def test_records_and_scores_that_were_made_up_together_are_found_by_a_new_run(learned: Path) -> None:
    edit_records(learned, "instruct", lambda records: [forget(record) for record in records[:3]])
    publish_scores_of_records(learned, "instruct")
    assert verify(learned)[0] == 0
    code, outcomes = verify(learned, "rerun=true")
    assert (code, failing(outcomes)) == (1, {"rerun: instruct"})
    assert "exact_match is 1 in a new run, outside the interval of 0.625" in outcomes["rerun: instruct"]["why"]
    assert outcomes["rerun: perplexity"]["why"] == "all 2 scores are equal in a new run of 8 items"


def test_a_score_within_its_interval_in_a_new_run_holds_and_says_so(learned: Path) -> None:
    def shift(record: dict[str, Any]) -> None:
        record["observations"]["perplexity"][0] *= 1.0001

    edit_records(learned, "perplexity", lambda records: [shift(record) for record in records])
    publish_scores_of_records(learned, "perplexity")
    code, outcomes = verify(learned, "rerun=true")
    assert code == 0
    assert outcomes["rerun: perplexity"]["why"] == (
        "1 scores are equal, and 1 within the recorded interval: perplexity"
    )


def test_a_changed_test_item_is_found(learned: Path) -> None:
    path = learned.parent / "colours.json"
    path.write_text(path.read_text(encoding="utf-8").replace("What colour is coal?", "What colour is tar?"))
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (1, {"items: instruct", "items: perplexity"})
    assert outcomes["items: instruct"]["why"].startswith("1 of the 8 items that were asked are not in the data")
    assert failing(verify(learned, "rerun=true")[1]) >= {"rerun: instruct"}


def test_a_removed_test_item_is_found(learned: Path) -> None:
    path = learned.parent / "colours.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))[:-1]))
    assert {"items: instruct", "items: perplexity"} <= failing(verify(learned)[1])


def test_a_prompt_with_other_tokens_than_recorded_is_found(learned: Path) -> None:
    edit_records(learned, "instruct", lambda records: records[4].update(prompt_sha256="0" * 64))
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (1, {"items: instruct"})
    assert outcomes["items: instruct"]["why"].endswith("the first in line 5 of the records")


def test_scores_of_other_weights_are_found(learned: Path, runs: Runs, tmp_path: Path) -> None:
    fresh = Path(shutil.copytree(runs["fresh"].folder, tmp_path / "fresh"))
    shutil.copy(learned / "train.yaml", fresh / "train.yaml")
    shutil.copy(learned / "eval.json", fresh / "eval.json")
    shutil.copytree(learned / "eval", fresh / "eval")
    Checkpoint.open(fresh).record_scores(Checkpoint.open(learned).metadata.scores)
    code, outcomes = verify(fresh)
    assert (code, failing(outcomes)) == (1, {"scores: instruct", "scores: perplexity"})
    assert "measured with other weights than" in outcomes["scores: instruct"]["why"]


def test_scores_without_records_are_not_checked(learned: Path) -> None:
    (learned / "eval.json").unlink()
    code, outcomes = verify(learned)
    assert code == 0
    assert outcomes["scores: instruct"]["outcome"] == "not checked"


def test_missing_records_and_an_unreadable_eval_json_do_not_hold(learned: Path) -> None:
    records_path(learned, "instruct").unlink()
    assert failing(verify(learned)[1]) == {"scores: instruct"}
    (learned / "eval.json").write_text("[1")
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (1, {"scores"})


def test_items_whose_data_is_not_at_hand_are_not_checked(learned: Path) -> None:
    (learned.parent / "colours.json").unlink()
    code, outcomes = verify(learned, "rerun=true")
    assert code == 0
    assert outcomes["items: instruct"]["outcome"] == outcomes["rerun: instruct"]["outcome"] == "not checked"
    assert outcomes["scores: instruct"]["outcome"] == "holds"


def test_what_a_foreign_eval_json_names_is_not_called(learned: Path, tmp_path: Path) -> None:
    called = {"_target_": "os.mkdir", "path": str(tmp_path / "called")}
    edit_json(learned / "eval.json", lambda found: found["provenance"]["instruct"].update(settings=called))
    edit_json(learned / "eval.json", lambda found: found["provenance"]["perplexity"].update(data_config=called))
    _, outcomes = verify(learned, "rerun=true")
    assert "would call os.mkdir" in outcomes["items: instruct"]["why"]
    assert "would be read by os.mkdir" in outcomes["items: perplexity"]["why"]
    assert not (tmp_path / "called").exists()


def test_another_version_of_a_task_is_not_compared(learned: Path) -> None:
    edit_json(learned / "eval.json", lambda found: found["provenance"]["instruct"].update(version=0))
    outcomes = verify(learned)[1]
    assert outcomes["items: instruct"]["why"] == "version 0 of the task was run, and this is version 1"


def test_a_speed_is_not_expected_to_come_out_the_same_again(learned: Path) -> None:
    run.main([f"checkpoint={learned}", "tasks=[speed]", "task.speed.rounds=2", "task.speed.repeats=1"])
    code, outcomes = verify(learned, "rerun=true")
    assert code == 0
    assert outcomes["scores: speed"]["outcome"] == outcomes["items: speed"]["outcome"] == "holds"
    assert outcomes["rerun: speed"]["outcome"] == "not checked"
    assert "come out differently each time" in outcomes["rerun: speed"]["why"]


def test_items_and_prompts_of_every_task_whose_prompts_depend_on_no_answer_hold(learned: Path) -> None:
    tasks = ("choice", "cloze", "constraints", "safety", "text", "turns")
    run.main(
        [
            f"checkpoint={learned}",
            f"tasks=[{','.join(tasks)}]",
            "limit=4",
            "task.constraints.max_new_tokens=2",
            "task.safety.max_new_tokens=2",
            "task.turns.turns=[0,1]",
            "task.turns.max_new_tokens=2",
        ]
    )
    code, outcomes = verify(learned)
    assert code == 0, failing(outcomes)
    assert {f"items: {task}" for task in tasks} <= outcomes.keys()
    assert {claim["outcome"] for name, claim in outcomes.items() if name.startswith("items: ")} == {"holds"}
