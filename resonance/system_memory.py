"""How much memory a process may still take: what is free on the machine, or what control groups leave, if less.

Containers and services are limited by control groups, of which /proc/meminfo knows nothing. Source: the kernel's
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst, and proc_pid_mountinfo(5).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class _Files:
    """What a version of control groups calls its files, and the reclaimable pages in its statistics."""

    limit: str
    usage: str
    cached: str


V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = _Files("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True, slots=True)
class _Mount:
    """Where a hierarchy of control groups is mounted, and which group its mount point shows."""

    point: PurePosixPath
    group: PurePosixPath
    files: _Files


def available_bytes(root: Path = Path("/")) -> float:
    """Bytes that this process may take without swapping or being killed; unknown is endless.

    The least of the machine's available memory and of what every limit around the process leaves: that of its own
    control group and of the groups around it, of either version. `root` is where `proc` and `sys` are.
    """
    return min([_of_machine(root), *_left_by_groups(root)])


def _of_machine(root: Path) -> float:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _text(root / "proc/meminfo"), re.MULTILINE)
    return float(found[1]) * 1024 if found else math.inf


def _left_by_groups(root: Path) -> Iterator[float]:
    groups = _own_groups(root)
    for mount in _mounts(root):
        own = groups.get(mount.files)
        if own is None:
            continue
        # A group outside of what is mounted is another namespace's: then the mount point is the nearest that is seen.
        inside = own.relative_to(mount.group) if own.is_relative_to(mount.group) else PurePosixPath()
        for group in (inside, *inside.parents):
            yield _left(root / mount.point.relative_to("/") / group, mount.files)


def _own_groups(root: Path) -> dict[_Files, PurePosixPath]:
    """The process's group in the hierarchy that limits memory, for each version in use."""
    groups: dict[_Files, PurePosixPath] = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            groups[V2] = PurePosixPath(path)
        elif "memory" in controllers.split(","):
            groups[V1] = PurePosixPath(path)
    return groups


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _text(root / "proc/self/mountinfo").splitlines():
        about, _, kind = line.partition(" - ")
        _, _, _, group, point, *_ = (_unescaped(field) for field in about.split())
        name, _, options = kind.split(" ", 2)
        if name == "cgroup2":
            yield _Mount(PurePosixPath(point), PurePosixPath(group), V2)
        elif name == "cgroup" and "memory" in options.split(","):
            yield _Mount(PurePosixPath(point), PurePosixPath(group), V1)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _left(group: Path, files: _Files) -> float:
    """What a group's limit leaves. Pages of files that were not used lately count as free, as in MemAvailable."""
    limit, usage = _text(group / files.limit).strip(), _text(group / files.usage).strip()
    if not limit.isdecimal() or not usage.isdecimal():  # "max", or a root group, which has no such files
        return math.inf
    cached = re.search(rf"^{files.cached} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
    return max(0.0, float(limit) - float(usage) + (float(cached[1]) if cached else 0.0))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
