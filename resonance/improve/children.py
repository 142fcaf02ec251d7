"""Runs the other commands as child processes, with a log, a deadline, and no orphans."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from resonance.atomic_files import write_text_atomically
from resonance.child_process import ending_with_parent
from resonance.errors import ResonanceError

CHILD_FILE = "child.json"  # the process that runs now, for a caller after a kill
_POLL_S = 0.2
_GRACE_S = 60.0  # for training to save its state


class StageFailed(ResonanceError):
    """A command that failed."""

    exit_code = 1


class OutOfTime(Exception):  # a limit that was set, not a fault
    """The time limit was reached; what was done so far is kept."""


def run_command(
    folder: Path,
    name: str,
    words: Sequence[str],
    *,
    deadline: float | None,
    environment: Mapping[str, str] | None = None,
    watch: Callable[[str], None] = lambda _line: None,
) -> str:
    """Run `resonance` with these words; its output goes into `folder/name.log`. Returns its standard output.

    `environment` is added to the present one: secrets belong there, as everybody sees a command line. `watch` gets each
    line of standard output as it is written. `deadline` is a time of `time.monotonic()`. Raises StageFailed with the
    last line of its errors, and OutOfTime; then, on an interruption, and when this process is killed, the process is
    stopped.
    """
    log, errors = folder / f"{name}.log", folder / f"{name}.errors.log"
    command = [sys.executable, "-m", "resonance.cli", *words]
    with log.open("w", encoding="utf-8") as output, errors.open("w", encoding="utf-8") as failure:
        process = subprocess.Popen(
            ending_with_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=failure,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    write_text_atomically(folder / CHILD_FILE, json.dumps({"pid": process.pid, "mark": folder.name}))
    try:
        with log.open(encoding="utf-8", errors="replace") as reader:
            while process.poll() is None:
                if deadline is not None and time.monotonic() > deadline:
                    raise OutOfTime
                _read(reader.read(), watch)
                time.sleep(_POLL_S)
            _read(reader.read(), watch)
    finally:
        if process.poll() is None:
            _stop(process)
        (folder / CHILD_FILE).unlink(missing_ok=True)
    if process.returncode != 0:
        lines = [line for line in errors.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        reason = lines[-1].removeprefix("Error: ") if lines else f"exit code {process.returncode}"
        failed = StageFailed(f"`resonance {words[0]}` failed: {reason} (the whole log: {errors})")
        failed.exit_code = 2 if process.returncode == 2 else 1
        raise failed
    return log.read_text(encoding="utf-8", errors="replace")


def processor_seconds() -> float:
    """The time that the processor has worked for this process and its ended children, theirs included."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def end_leftover(folder: Path) -> None:
    """Stop the command that a killed caller has left running, if there is one; it saves its state."""
    path = folder / CHILD_FILE
    try:
        child = json.loads(path.read_text(encoding="utf-8"))
        pid, mark = int(child["pid"]), str(child["mark"])
    except (OSError, ValueError, TypeError, LookupError):
        return
    for number, seconds in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, 5.0)):
        if not _is_ours(pid, mark):
            break
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
        end = time.monotonic() + seconds
        while _is_ours(pid, mark) and time.monotonic() < end:
            time.sleep(_POLL_S)
    path.unlink(missing_ok=True)


def _is_ours(pid: int, mark: str) -> bool:
    """Whether this process still runs a command of this attempt: its command line names the attempt."""
    try:
        return mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_S)
            return


def _read(text: str, watch: Callable[[str], None]) -> None:
    for line in text.splitlines():
        watch(line)
