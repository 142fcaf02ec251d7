"""The memory that a process has, and that it can still allocate: the machine's, or less under control groups.

Control groups limit containers and services, and /proc/meminfo does not show them. Source: the kernel's
Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst, and proc_pid_mountinfo(5).
"""

import math
import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class _Version:
    """A version of control groups: the names of its files, and of the reclaimable pages in memory.stat."""

    limit: str
    usage: str
    cached: str


V1 = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = _Version("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted hierarchy of control groups, and the group at its mount point."""

    point: PurePosixPath
    group: PurePosixPath
    version: _Version


def available_bytes(root: Path = Path("/")) -> float:
    """Bytes that this process can allocate without swapping or being killed; infinite when unknown.

    The minimum of the machine's available memory and of what the limits of the process's control group and its parent
    groups leave, of either version. `root` is the folder of `proc` and `sys`.
    """
    return min([_machine_bytes(root), *_group_bytes(root)])


def resident_bytes(*, peak: bool = False) -> int:
    """The memory that this process has resident, or the most that it ever had; outside Linux always the latter."""
    found = re.search(rf"^{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB$", _read(Path("/proc/self/status")), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _machine_bytes(root: Path) -> float:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    return float(found[1]) * 1024 if found else math.inf


def _group_bytes(root: Path) -> Iterator[float]:
    groups = _own_groups(root)
    for mount in _mounts(root):
        own = groups.get(mount.version)
        if own is None:
            continue
        # A group outside the mount belongs to another namespace; its nearest visible parent is then the mount point.
        inside = own.relative_to(mount.group) if own.is_relative_to(mount.group) else PurePosixPath()
        for group in (inside, *inside.parents):
            yield _remaining(root / mount.point.relative_to("/") / group, mount.version)


def _own_groups(root: Path) -> dict[_Version, PurePosixPath]:
    """The process's group in the memory hierarchy of each version in use."""
    groups: dict[_Version, PurePosixPath] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            groups[V2] = PurePosixPath(path)
        elif "memory" in controllers.split(","):
            groups[V1] = PurePosixPath(path)
    return groups


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _read(root / "proc/self/mountinfo").splitlines():
        about, _, kind = line.partition(" - ")
        _, _, _, group, point, *_ = (_unescaped(field) for field in about.split())
        name, _, options = kind.split(" ", 2)
        if name == "cgroup2":
            yield _Mount(PurePosixPath(point), PurePosixPath(group), V2)
        elif name == "cgroup" and "memory" in options.split(","):
            yield _Mount(PurePosixPath(point), PurePosixPath(group), V1)


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


def _remaining(group: Path, version: _Version) -> float:
    """The bytes that a group's limit leaves. Inactive pages of files count as free, as in MemAvailable."""
    limit, usage = _read(group / version.limit).strip(), _read(group / version.usage).strip()
    if not limit.isdecimal() or not usage.isdecimal():  # "max", or a root group, which has no such files
        return math.inf
    cached = re.search(rf"^{version.cached} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
    return max(0.0, float(limit) - float(usage) + (float(cached[1]) if cached else 0.0))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
