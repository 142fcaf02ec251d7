"""The journal of an attempt: which stages are done, with their figures. A kill at any moment leaves it whole."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from resonance.atomic_files import write_text_atomically
from resonance.errors import ResonanceError
from resonance.improve.objectives import LEARNS
from resonance.provenance import now

FOLDER = ".improve"  # in the folder of the runs: one folder an attempt
JOURNAL_FILE = "journal.json"
EXPORT_FILE = "feedback.jsonl"  # all judgements that the attempt gathered
HELD_OUT_EVAL = "held_out"  # the folder of the evaluation on held-out feedback
STAGES = ("gather", "check", "train", "evaluate", "gate", "promote")

Json = dict[str, Any]


class JournalError(ResonanceError):
    """A journal that cannot be read."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: `folder` holds its files, and `name` is the run that it trains."""

    folder: Path
    values: Json

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.folder.name

    @property
    def production(self) -> tuple[str, str]:
        """The run in service when the attempt began, and the checksum of its weights."""
        return str(self.values["production"]["run"]), str(self.values["production"]["crc32"])

    @property
    def outcome(self) -> Mapping[str, Any] | None:
        """How it ended; None for an attempt that is under way or was interrupted."""
        return cast("Json | None", self.values.get("outcome"))

    @property
    def looked(self) -> bool:
        """Whether its candidate was compared with the run in service, which spends a share of alpha."""
        return "gate" in self.values["stages"]

    @property
    def learned_from(self) -> int:
        """How many judgements the candidate was trained on: examples, pairs or thumbs; 0 before it is trained."""
        stages: Mapping[str, Json] = self.values["stages"]
        objectives = stages.get("train", {}).get("objectives", [])
        return sum(int(stages["gather"][kind]) for name, kind in LEARNS.items() if name in objectives)

    def figures(self, stage: str) -> Json | None:
        """The figures of a stage; None before it is done."""
        return cast("Json | None", self.values["stages"].get(stage))

    def record(self, stage: str, seconds: float, **figures: object) -> Json:
        """Write that a stage is done; returns its figures."""
        self.values["stages"][stage] = {"ended_at": now(), "seconds": round(seconds, 2), **figures}
        self.write()
        return self.values["stages"][stage]

    def end(self, outcome: str, sentence: str) -> None:
        """Write how the attempt ended."""
        self.values["outcome"] = {"outcome": outcome, "sentence": sentence, "at": now()}
        self.write()

    def write(self) -> None:
        """Write the journal, so that a kill leaves the old one or the new one."""
        text = json.dumps(self.values, indent=2, ensure_ascii=False) + "\n"
        write_text_atomically(self.folder / JOURNAL_FILE, text, mode=0o600)


def begin(root: Path, alias: str, run: str, crc32: str) -> Attempt:
    """Begin an attempt on the run in service; its name is the time, to the second, that no attempt has yet."""
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    while True:
        folder = root / FOLDER / f"improve-{datetime.now():%Y%m%d-%H%M%S}"
        try:
            folder.mkdir(mode=0o700)
            break
        except FileExistsError:
            time.sleep(0.05)
    production = {"run": run, "crc32": crc32}
    values: Json = {"alias": alias, "started_at": now(), "production": production, "stages": {}, "outcome": None}
    attempt = Attempt(folder, values)
    attempt.write()
    return attempt


def attempts(root: Path, alias: str | None) -> list[Attempt]:
    """All attempts on an alias, None: on any, oldest first. Raises JournalError for a damaged journal."""
    found: list[Attempt] = []
    for path in sorted((root / FOLDER).glob(f"*/{JOURNAL_FILE}")):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if alias in (None, values["alias"]) and isinstance(values["stages"], dict) and values["production"]["run"]:
                found.append(Attempt(path.parent, values))
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise JournalError(f"{path} cannot be read ({error}); remove its folder.") from error
    return found
