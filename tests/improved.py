"""The records of a `resonance improve` on a server's feedback, made in a second: a real export, journal and alias."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from resonance.aliases import read_aliases
from resonance.checkpoint import Checkpoint
from resonance.cli.promote import promote_run
from resonance.improve.journal import EXPORT_FILE, FOLDER, HELD_OUT_EVAL, STAGES, Attempt
from resonance.provenance import now
from serve.feedback import main as feedback

BETTER = "exact_match 25.0% before and 60.4% after on 48 held-out answers."


def improve(root: Path, store: str, name: str, *, like: str, test: float = 0.0, promoted: bool = True) -> list[dict]:
    """Make `name`, with the weights of the run `like`, an attempt on production; returns the lines it gathered."""
    before = read_aliases(root)["production"].current
    shutil.copytree(root / like, root / name)
    folder = root / FOLDER / name
    folder.mkdir(parents=True)
    words = ["action=export", f"out={folder / EXPORT_FILE}", f"store.url={store}", f"test={test}", "validation=0"]
    with ThreadPoolExecutor(1) as thread:  # a browser's test has an event loop on its own
        thread.submit(feedback, [*words, "screen=false"]).result()
    lines = [json.loads(line) for line in (folder / EXPORT_FILE).read_text().splitlines()]
    examples = [line for line in lines if line["kind"] == "example"]
    trained = sum(line["split"] == "train" for line in examples)
    check = {"name": "better on held-out feedback", "passed": promoted, "sentence": BETTER}
    stages = {
        "gather": {"examples": trained, "pairs": 0},
        "check": {},
        "train": {"objectives": ["sft"]},
        "evaluate": {},
        "gate": {"checks": [check]},
    }
    for stage in stages.values():
        stage.update(ended_at=now(), seconds=1.0)
    assert set(stages) < set(STAGES)
    production = {"run": before.run, "crc32": before.crc32}
    values = {"alias": "production", "started_at": now(), "production": production, "stages": stages, "outcome": None}
    _evaluate(folder / HELD_OUT_EVAL, before.run, [line for line in examples if line["split"] == "test"])
    attempt = Attempt(folder, values)
    attempt.write()
    if promoted:
        evidence = {"improved from": before.run, "learned_from": attempt.learned_from, check["name"]: BETTER}
        promote_run(root, "production", Checkpoint.find_named(name, root).name, verify=False, evidence=evidence)
    return lines


def _evaluate(folder: Path, before: str, held_out: list[dict]) -> None:
    """What `resonance eval` writes of both checkpoints: the old one is wrong, the new one right."""
    for where, right in ((folder, True), (folder / "eval" / "compare" / before, False)):
        (where / "eval").mkdir(parents=True, exist_ok=True)
        records = [
            {"item": number, "question": line["messages"][-2]["content"], "expected": line["messages"][-1]["content"],
             "answer": line["messages"][-1]["content"] if right else "no idea", "correct": right}
            for number, line in enumerate(held_out)
        ]  # fmt: skip
        (where / "eval" / "instruct.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
