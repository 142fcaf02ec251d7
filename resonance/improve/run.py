"""One attempt to improve a checkpoint, stage by stage; an interrupted one goes on where it stopped."""

import shutil
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from rich.console import Console

from resonance.aliases import AliasError, read_aliases
from resonance.checkpoint import METADATA_FILE, Checkpoint
from resonance.improve.children import OutOfTime, end_leftover
from resonance.improve.evidence import waiting_attempt
from resonance.improve.journal import Attempt, attempts, begin
from resonance.improve.lock import Busy, only_one
from resonance.improve.progress import Progress
from resonance.improve.report import write_report
from resonance.improve.settings import Settings
from resonance.improve.stages import Quiet, Refused, Stages, TooLittle
from resonance.improve.training import RECORD_FILE

Result: TypeAlias = Literal["promoted", "ready", "nothing", "refused", "out of time"]
EXIT_CODES: dict[Result, int] = {"promoted": 0, "ready": 0, "nothing": 3, "refused": 4, "out of time": 5}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, in one sentence, and where its report is."""

    result: Result
    sentence: str
    report: Path | None = None


def improve(settings: Settings, console: Console) -> Outcome:
    """Go through all stages of one attempt, or what is left of an interrupted one.

    Raises AliasError and CheckpointError when the checkpoint cannot be improved, StageFailed for a command that fails.
    """
    deadline = None if settings.time_limit is None else time.monotonic() + settings.time_limit
    production = _production(settings)
    if settings.quiet_hours is not None and settings.quiet_hours.holds(datetime.now()):
        return Outcome("nothing", f"These are quiet hours ({settings.quiet_hours}); nothing was done.")
    try:
        with only_one(settings.root):
            if (promoted := _promoted_before_a_kill(settings, production)) is not None:
                return promoted
            attempt = _attempt(settings, production)
            with Progress(console) as progress:
                return _run(Stages(settings, attempt, production, progress, deadline), attempt)
    except Busy as busy:
        return Outcome("nothing", str(busy))


def _run(stages: Stages, attempt: Attempt) -> Outcome:
    before, _ = attempt.production
    result: Result = "promoted"
    sentence = f"{stages.settings.alias} is {attempt.name} now, and was {before}."
    try:
        if (stop := _to_the_end(stages, attempt)) is not None:
            result, sentence = "ready", stop
    except OutOfTime:
        return Outcome("out of time", "The time limit is reached; the next call goes on where this one stopped.")
    except Quiet as quiet:
        return Outcome("nothing", f"{quiet} The next call goes on.")
    except TooLittle as reason:
        result, sentence = "nothing", str(reason)
    except Refused as reason:
        result, sentence = "refused", str(reason)
    return _end(stages, attempt, result, sentence)


def _to_the_end(stages: Stages, attempt: Attempt) -> str | None:
    """Go through the stages; returns a sentence where the settings end the attempt before its promotion."""
    stages.gather()
    stages.check()
    if stages.settings.dry:
        return "There is enough feedback to learn from; dry=true stops here."
    stages.train()
    stages.evaluate()
    stages.gate()
    if not stages.settings.promote:
        return f"{attempt.name} passes the gate; promote=false: `resonance promote {attempt.name}` promotes it."
    stages.promote()
    return None


def _end(stages: Stages, attempt: Attempt, result: Result, sentence: str) -> Outcome:
    settings = stages.settings
    if settings.dry:
        shutil.rmtree(attempt.folder)
        return Outcome(result, sentence)
    attempt.end(result, sentence)
    report = write_report(attempt, stages.candidate if stages.trained else None)
    if settings.out is not None:
        settings.out.write_bytes(report.read_bytes())
    if stages.trained:
        shutil.copyfile(report, stages.candidate / report.name)
    _tidy(settings)
    return Outcome(result, sentence, report)


def _production(settings: Settings) -> Checkpoint:
    alias = read_aliases(settings.root).get(settings.alias)
    if alias is None:
        raise AliasError(
            f"checkpoint={settings.alias} is no alias in {settings.root}, and only an alias can be moved to something "
            f"better; `resonance promote RUN alias={settings.alias}` makes one."
        )
    return Checkpoint.find(settings.alias, settings.root)


def _attempt(settings: Settings, production: Checkpoint) -> Attempt:
    """The attempt that was interrupted on this checkpoint, the one that evidence is on, or a new one."""
    crc32 = str(production.crc32)
    if settings.dry:  # which leaves nothing behind
        return begin(settings.root, settings.alias, production.name, crc32)
    if (waiting := waiting_attempt(settings, production)) is not None:
        end_leftover(waiting.folder)
        waiting.values["outcome"] = None
        return waiting
    found: Attempt | None = None
    for attempt in attempts(settings.root, settings.alias):
        if attempt.outcome is not None:
            continue
        end_leftover(attempt.folder)
        if attempt.production != (production.name, crc32):
            attempt.end("abandoned", f"{settings.alias} was moved to {production.name} meanwhile.")
        elif settings.fresh:
            attempt.end("abandoned", "fresh=true began anew.")
        else:
            found = attempt
    return found or begin(settings.root, settings.alias, production.name, crc32)


def _promoted_before_a_kill(settings: Settings, production: Checkpoint) -> Outcome | None:
    """The outcome of an attempt that was killed between moving the alias and writing it down."""
    for attempt in attempts(settings.root, settings.alias):
        if attempt.outcome is None and attempt.name == production.name and attempt.figures("gate") is not None:
            before, _ = attempt.production
            sentence = f"{settings.alias} is {attempt.name} now, and was {before}."
            attempt.end("promoted", sentence)
            return Outcome("promoted", sentence, write_report(attempt, production.folder))
    return None


def _tidy(settings: Settings) -> None:
    """Delete candidates that were not promoted but for the newest, and attempts that found nothing to do."""
    moves = [move.run for alias in read_aliases(settings.root).values() for move in alias.log]
    ended = [attempt for attempt in attempts(settings.root, settings.alias) if attempt.outcome is not None]
    results = {attempt.name: str((attempt.outcome or {}).get("outcome")) for attempt in ended}
    refused = [attempt for attempt in ended if results[attempt.name] in ("refused", "abandoned")]
    for attempt in refused[: max(0, len(refused) - settings.keep)]:
        for name in (attempt.name, f"{attempt.name}-sft"):
            folder = settings.root / name
            if name not in moves and (folder / RECORD_FILE).is_file() and (folder / METADATA_FILE).is_file():
                shutil.rmtree(folder)
    for attempt in [each for each in ended if results[each.name] == "nothing"][:-1]:
        shutil.rmtree(attempt.folder)
