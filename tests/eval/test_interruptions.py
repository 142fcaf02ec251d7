"""Evaluations that are killed go on, and what is on disk is whole at any moment."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from data.example import Example
from eval import EvalError
from eval.evaluate import Evaluation, evaluate
from eval.evaluated_model import EvaluatedModel
from eval.provenance import Provenance
from eval.records import read_records, records_sha256
from eval.run import main
from eval.store import Store
from eval.tasks.base import Item, MetricSpec, Record, item_id
from resonance.checkpoint import Checkpoint
from resonance.paths import PROJECT_ROOT

Models = Callable[[str], EvaluatedModel]


class Killed(BaseException):
    """Ends a task as a kill does: nothing gets to clean up."""


@dataclass(frozen=True, slots=True)
class Counting:
    """Ten numbers, of which it says which were asked; it dies before the one named `dies_at`."""

    dies_at: int | None = None
    asked: list[int] = field(default_factory=list[int])
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = False

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        return {"even": MetricSpec("proportion", share=True)}

    def items(self, examples: Sequence[Example]) -> Sequence[Item[int]]:
        return [Item(item_id(number), number, str(number)) for number in range(10)]

    def run(self, model: EvaluatedModel, items: Sequence[Item[int]]) -> Iterator[Record]:
        for item in items:
            if item.content == self.dies_at:
                raise Killed
            self.asked.append(item.content)
            yield Record(item.id, {"even": (1.0 - item.content % 2, 1.0)}, answer=f"a\u2028b {item.content}")

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        return ()


@dataclass
class World:
    """A folder to evaluate into, as one process after another does."""

    folder: Path
    model: EvaluatedModel
    said: list[str] = field(default_factory=list[str])

    def run(
        self,
        task: Counting,
        *,
        weights: str = "w",
        settings: object = 1,
        fresh: bool = False,
        reuse: Sequence[Path] = (),
    ) -> Evaluation:
        provenance = Provenance({"weights_sha256": weights, "seed": 0}, {"command": "resonance eval"}, {})
        store = Store(
            self.folder,
            "model",
            provenance,
            lambda *_: {"setting": settings},
            reuse=reuse,
            fresh=fresh,
            say=self.said.append,
        )
        return evaluate(self.model, {"counting": task}, [], store=store)

    def killed_at(self, number: int) -> None:
        with pytest.raises(Killed):
            self.run(Counting(dies_at=number))

    @property
    def partial(self) -> Path:
        return self.folder / "eval" / "counting.partial.jsonl"

    @property
    def document(self) -> dict[str, dict[str, dict[str, object]]]:
        return json.loads((self.folder / "eval.json").read_text(encoding="utf-8"))


@pytest.fixture
def world(model: Models, tmp_path: Path) -> World:
    return World(tmp_path, model("fresh"))


def test_a_killed_task_goes_on_where_it_stopped(world: World) -> None:
    world.killed_at(6)
    rest = Counting()
    evaluation = world.run(rest)
    assert rest.asked == [6, 7, 8, 9]
    assert world.said == ["counting: goes on after 6 of 10 items"]
    records = read_records(world.folder / "eval" / "counting.jsonl")
    assert list(evaluation.results["counting"].records) == records
    assert [record.answer for record in records] == [f"a\u2028b {number}" for number in range(10)]
    assert world.document["tasks"]["counting"]["even"] == {
        "value": 0.5,
        "n": 10,
        "ci95": pytest.approx([0.24, 0.76], abs=0.01),
    }
    assert not world.partial.exists()


def test_records_in_another_folder_are_reused_with_their_own_entry(world: World, tmp_path: Path) -> None:
    world.run(Counting())
    measured = world.document["provenance"]["counting"]
    copy, further = (World(tmp_path / name, world.model) for name in ("copy", "further"))
    task = Counting()
    evaluation = copy.run(task, reuse=[world.folder])
    assert task.asked == []
    assert evaluation.results["counting"].metrics()[None, "even"].value() == 0.5
    assert copy.document["provenance"]["counting"] == measured | {"reused_from": str(world.folder)}
    assert copy.document["tasks"] == world.document["tasks"]
    assert (copy.folder / "eval" / "counting.jsonl").read_bytes() == (
        world.folder / "eval" / "counting.jsonl"
    ).read_bytes()
    further.run(task, reuse=[copy.folder])  # which says where they were made
    assert further.document["provenance"]["counting"]["reused_from"] == str(world.folder)
    assert task.asked == []


@pytest.mark.parametrize("change", [{"weights": "others"}, {"settings": 2}, {"fresh": True}])
def test_other_weights_or_settings_are_not_reused(world: World, tmp_path: Path, change: dict[str, Any]) -> None:
    world.run(Counting())
    task, other = Counting(), World(tmp_path / "other", world.model)
    other.run(task, reuse=[world.folder], **change)
    assert task.asked == list(range(10))
    assert "reused_from" not in other.document["provenance"]["counting"]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_half_a_line_is_asked_again(world: World, cut: int) -> None:
    world.killed_at(6)
    world.partial.write_bytes(world.partial.read_bytes()[:-cut])
    rest = Counting()
    world.run(rest)
    assert rest.asked == [5, 6, 7, 8, 9]
    assert len(read_records(world.folder / "eval" / "counting.jsonl")) == 10


@pytest.mark.parametrize("change", [{"weights": "others"}, {"settings": 2}, {"fresh": True}])
def test_records_of_other_weights_or_settings_are_not_taken_over(world: World, change: dict[str, object]) -> None:
    world.killed_at(6)
    again = Counting()
    world.run(again, **change)
    assert again.asked == list(range(10))
    if "fresh" not in change:
        assert "starts anew, because an unfinished evaluation had other weights" in world.said[0]


def test_what_is_finished_is_not_asked_again_unless_its_records_were_changed(world: World) -> None:
    world.run(Counting())
    before = (world.folder / "eval.json").read_bytes()
    second = Counting()
    evaluation = world.run(second)
    assert second.asked == []
    assert evaluation.results["counting"].metrics()[None, "even"].value() == 0.5
    assert (world.folder / "eval.json").read_bytes() == before
    path = world.folder / "eval" / "counting.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("[1.0, 1.0]", "[0.0, 1.0]"), encoding="utf-8")
    third = Counting()
    world.run(third)
    assert third.asked == list(range(10))
    assert "counting.jsonl has changed" in world.said[-1]


def test_a_killed_second_evaluation_leaves_the_first_one_whole(world: World) -> None:
    world.run(Counting())
    entry = world.document["provenance"]["counting"]
    with pytest.raises(Killed):
        world.run(Counting(dies_at=3), settings=2)
    assert world.document["provenance"]["counting"] == entry
    assert records_sha256(world.folder / "eval" / "counting.jsonl") == entry["records_sha256"]


def test_a_task_that_fails_at_once_leaves_nothing_behind(world: World) -> None:
    store = Store(world.folder, "model", Provenance({"weights_sha256": "w", "seed": 0}, {}, {}), lambda *_: {})
    with pytest.raises(EvalError, match="no endpoint"), store.open("counting", Counting(), Counting().items([])):
        raise EvalError("no endpoint")
    assert not world.partial.exists()


def test_two_processes_do_not_write_the_same_records(world: World) -> None:
    store = Store(world.folder, "model", Provenance({"weights_sha256": "w", "seed": 0}, {}, {}), lambda *_: {})
    with store.open("counting", Counting(), Counting().items([])):
        result = world.run(Counting()).results["counting"]
    assert result.error == "counting is being evaluated by another process; wait for it."


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_command_goes_on_after_a_kill_and_after_ctrl_c(
    runs: dict[str, Checkpoint], tmp_path: Path, how: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(runs["fresh"].folder, tmp_path / "run"))
    settings = [
        f"checkpoint={run}",
        "tasks=[instruct,turns]",
        "data=basics",
        "data.test_size=400",
        "data.train_size=50",
        "batch_size=2",
    ]
    partial = run / "eval" / "instruct.partial.jsonl"
    command = [sys.executable, "-m", "resonance.cli", "eval", *settings]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not (partial.is_file() and partial.read_bytes().count(b"\n") > 20) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on where it stopped" in errors
    kept = partial.read_bytes().count(b"\n") - 1
    main(settings)
    assert f"instruct: goes on after {kept} of 400 items" in capsys.readouterr().out
    assert len(read_records(run / "eval" / "instruct.jsonl")) == 400
