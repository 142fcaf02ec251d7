"""Reads files of further evidence on a candidate: blind votes on a shadow's answers, or what somebody has written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resonance.checkpoint import METADATA_FILE, Checkpoint
from resonance.errors import ResonanceError
from resonance.improve.gate import Check
from resonance.improve.journal import Attempt, attempts
from resonance.improve.settings import Settings


class EvidenceError(ResonanceError):
    """A file of evidence that cannot be read, or is not about the candidate."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A run, and the checksum of its weights."""

    run: str
    crc32: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A check from a file; `candidate` and `against` are None where it does not say which weights it is about."""

    path: Path
    check: Check
    candidate: Weights | None
    against: Weights | None


def read_evidence(files: Sequence[Path]) -> list[Evidence]:
    """Read all entries: {"name", "passed", "sentence"}, with "candidate" and "against" where the weights are known.

    `passed` may be null: too little is known, which does not count either way. Raises EvidenceError.
    """
    found: list[Evidence] = []
    for path in files:
        try:
            found += [_entry(path, each) for each in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise EvidenceError(
                f'{path} is no evidence ({error}); it must be a JSON list of {{"name", "passed", "sentence"}}.'
            ) from error
    return found


def waiting_attempt(settings: Settings, production: Checkpoint) -> Attempt | None:
    """The attempt whose candidate the evidence is on, kept with promote=false or interrupted since.

    None where no evidence says which weights it is about. Raises EvidenceError for other weights than these two.
    """
    found: Attempt | None = None
    known = {attempt.name: attempt for attempt in attempts(settings.root, settings.alias)}
    for each in read_evidence(settings.gate.evidence):
        if each.candidate is None or each.against is None:
            continue
        run, alias = each.candidate.run, settings.alias
        if settings.fresh:
            raise EvidenceError(f"fresh=true begins anew, and {each.path} is evidence on {run}; leave one of them out.")
        attempt = known.get(run)
        state = "no candidate" if attempt is None else (attempt.outcome or {}).get("outcome", "ready")
        if attempt is None or state != "ready":
            raise EvidenceError(
                f"{each.path} is evidence on {run}, which is {state} and does not wait for {alias}'s gate; "
                "`resonance improve promote=false` makes a candidate that does."
            )
        if found is not None and found.name != run:
            raise EvidenceError(
                f"gate.evidence is on two candidates, {found.name} and {run}; give that on one of them."
            )
        if each.against.crc32 != production.crc32 or attempt.production != (production.name, production.crc32):
            raise EvidenceError(
                f"{each.path} compares {run} with {each.against.run}, and {alias} is {production.name} with other "
                "weights; gather votes against what is in service now."
            )
        folder = settings.root / run
        if not (folder / METADATA_FILE).is_file() or Checkpoint.open(folder).crc32 != each.candidate.crc32:
            raise EvidenceError(f"{each.path} is evidence on other weights than those that {folder} has now.")
        found = attempt
    return found


def _entry(path: Path, value: dict[str, Any]) -> Evidence:
    name, passed, sentence = str(value["name"]), value["passed"], str(value["sentence"])
    if passed is not None and not isinstance(passed, bool):
        raise TypeError("passed must be true, false or null")
    check = Check(name, passed is not False, sentence, counted=passed is not None)
    candidate, against = (_weights(value.get(key)) for key in ("candidate", "against"))
    if (candidate is None) != (against is None):
        raise TypeError("candidate and against must both be there, or neither")
    return Evidence(path, check, candidate, against)


def _weights(value: dict[str, Any] | None) -> Weights | None:
    return None if value is None else Weights(str(value["run"]), str(value["crc32"]))
