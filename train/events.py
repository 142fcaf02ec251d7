"""`events.jsonl` of a run: what happened to it that its curve does not say."""

import json
from collections.abc import Mapping
from pathlib import Path

from resonance.atomic_files import write_text_atomically

EVENTS_FILE = "events.jsonl"


def record_event(folder: Path, kind: str, step: int, facts: Mapping[str, object]) -> None:
    """Append an event of an optimiser step. Raises ValueError for numbers that JSON does not have."""
    line = json.dumps({"event": kind, "step": step, **facts}, ensure_ascii=False, allow_nan=False)
    with (folder / EVENTS_FILE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def forget_events(folder: Path, kind: str, after_step: int) -> None:
    """Remove the events of a kind after a step; a run that goes on from there records them again."""
    path = folder / EVENTS_FILE
    if not path.is_file():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]  # whole ones
    events = [(line, json.loads(line)) for line in lines]
    kept = [line for line, event in events if event["event"] != kind or event["step"] <= after_step]
    write_text_atomically(path, "".join(line + "\n" for line in kept))
