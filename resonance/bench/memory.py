"""The resident memory of this process, and of a tree of processes, as Linux's /proc reports it."""

import ctypes
import gc
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from resonance.child_process import ending_with_parent


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that has ended, with the most memory that it held."""

    returncode: int
    stdout: str
    stderr: str
    peak_mb: int


def run(command: Sequence[object]) -> Finished:
    """Run a command to its end, which is this process's at the latest.

    Its peak is its own, not that of all processes which this one has started.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        words = ending_with_parent([str(word) for word in command], signal.SIGKILL)
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        said, errors = (file.read().decode(errors="replace") for file in (out, err))
        return Finished(process.returncode, said, errors, usage.ru_maxrss // 1024)


def reset_peak() -> None:
    """Give freed memory back to the system and start the peak of this process anew (on Linux)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def rss_mb(*, peak: bool = False) -> int:
    """What this process holds, or held at its peak; getrusage's peak would include the process it was forked from."""
    return _kilobytes("self/status", "VmHWM" if peak else "VmRSS") // 1024


def tree_pss_mb(pid: int) -> int:
    """What a process and its descendants hold; pages that several of them share are counted once."""
    return sum(_kilobytes(f"{process}/smaps_rollup", "Pss") for process in _with_descendants(pid)) // 1024


def _kilobytes(file: str, field: str) -> int:
    with suppress(OSError, IndexError):  # no Linux, or a process that has ended
        text = (Path("/proc") / file).read_text(encoding="utf-8")
        return int(re.findall(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[0])
    return 0


def _with_descendants(pid: int) -> list[int]:
    processes = [pid]
    for process in processes:
        with suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                processes += map(int, (task / "children").read_text(encoding="ascii").split())
    return processes
