"""The resident memory of this process, and of a tree of processes, as Linux's /proc reports it."""

import re
from contextlib import suppress
from pathlib import Path


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
