"""`events.jsonl` of a run: spikes and early ends."""

import json
from collections.abc import Mapping
from pathlib import Path

from resonance.atomic_files import write_text_atomically

EVENTS_FILE = "events.jsonl"


def record_event(folder: Path, kind: str, step: int, facts: Mapping[str, object]) -> None:
    """Append an event at an optimiser step. Raises ValueError for numbers that JSON cannot represent."""
    line = json.dumps({"event": kind, "step": step, **facts}, ensure_ascii=False, allow_nan=False)
    with (folder / EVENTS_FILE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def remove_events(folder: Path, kind: str, after_step: int) -> None:
    """Remove the events of a kind after a step; a run resumed from there records them again."""
    path = folder / EVENTS_FILE
    if not path.is_file():
        return
    # A killed write leaves an incomplete line.
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    events = [(line, json.loads(line)) for line in lines]
    kept = [line for line, event in events if event["event"] != kind or event["step"] <= after_step]
    write_text_atomically(path, "".join(line + "\n" for line in kept))
