"""Free memory is what the machine and every control group around the process leave, by files as Linux lays them out."""

import math
from pathlib import Path

import pytest

from resonance.system_memory import available_bytes

MB = 1 << 20
MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8192000 kB\nSwapTotal: 0 kB\n"
HOST = 8192000 * 1024
V2_MOUNT = "30 23 0:26 {group} {point} rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "36 32 0:33 {group} {point} rw,nosuid - cgroup cgroup rw,memory\n"
OTHERS = (
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "35 32 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
)


def machine(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    """A root with /proc and some control groups' files."""
    everything = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": cgroup,
        "proc/self/mountinfo": OTHERS + mountinfo,
        **files,
    }
    for name, text in everything.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def v2(folder: str, limit: object, usage: int, cached: int = 0) -> dict[str, str]:
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{usage}\n",
        f"{folder}/memory.stat": f"anon 5\nfile 7\ninactive_anon 3\ninactive_file {cached}\nactive_file 1\n",
    }


def v1(folder: str, limit: int, usage: int, cached: int = 0) -> dict[str, str]:
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{usage}\n",
        f"{folder}/memory.stat": f"cache 5\ninactive_file 1\ntotal_cache 9\ntotal_inactive_file {cached}\n",
    }


SYS = "sys/fs/cgroup"
UNLIMITED_V1 = 9223372036854771712


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "expected"),
    [
        pytest.param("", "", {}, HOST, id="no control groups"),
        pytest.param(
            "0::/\n",
            V2_MOUNT.format(group="/", point="/sys/fs/cgroup"),
            v2(SYS, 512 * MB, 200 * MB, 50 * MB),
            362 * MB,
            id="a container with a namespace of its own",
        ),
        pytest.param(
            "0::/system.slice/resonance.service\n",
            V2_MOUNT.format(group="/", point="/sys/fs/cgroup"),
            v2(f"{SYS}/system.slice", 300 * MB, 100 * MB)
            | v2(f"{SYS}/system.slice/resonance.service", 900 * MB, 50 * MB),
            200 * MB,
            id="the group around has the tighter limit",
        ),
        pytest.param(
            "0::/user.slice/a b\n",
            V2_MOUNT.format(group="/user.slice", point="/mnt/cgroup\\0402"),
            v2("mnt/cgroup 2/a b", 100 * MB, 40 * MB),
            60 * MB,
            id="mounted elsewhere, from a group on, with spaces",
        ),
        pytest.param(
            "0::/app\n",
            V2_MOUNT.format(group="/", point="/sys/fs/cgroup"),
            v2(f"{SYS}/app", "max", 200 * MB),
            HOST,
            id="max is no limit",
        ),
        pytest.param(
            "0::/app\n",
            V2_MOUNT.format(group="/", point="/sys/fs/cgroup"),
            v2(f"{SYS}/app", 1 << 50, 200 * MB),
            HOST,
            id="more than the machine has",
        ),
        pytest.param(
            "0::/app\n",
            V2_MOUNT.format(group="/", point="/sys/fs/cgroup"),
            v2(f"{SYS}/app", 100 * MB, 130 * MB),
            0,
            id="over its limit",
        ),
        pytest.param(
            "4:memory:/docker/abc\n1:name=systemd:/docker/abc\n",
            V1_MOUNT.format(group="/docker/abc", point="/sys/fs/cgroup/memory"),
            v1(f"{SYS}/memory", 256 * MB, 100 * MB, 30 * MB),
            186 * MB,
            id="version 1, the container's group mounted as the root",
        ),
        pytest.param(
            "4:cpu,memory:/batch/job\n0::/batch/job\n",
            V1_MOUNT.format(group="/", point="/sys/fs/cgroup/memory")
            + V2_MOUNT.format(group="/", point="/sys/fs/cgroup/unified"),
            v1(f"{SYS}/memory", UNLIMITED_V1, 900 * MB)
            | v1(f"{SYS}/memory/batch", 700 * MB, 300 * MB)
            | v1(f"{SYS}/memory/batch/job", UNLIMITED_V1, 100 * MB)
            | {f"{SYS}/unified/batch/job/cgroup.procs": "1\n"},
            400 * MB,
            id="both versions, version 1 limits",
        ),
        pytest.param(
            "0::/../other\n",
            V2_MOUNT.format(group="/mine", point="/sys/fs/cgroup"),
            v2(SYS, 80 * MB, 30 * MB),
            50 * MB,
            id="a group of another namespace",
        ),
    ],
)
def test_the_tightest_limit_around_the_process_counts(
    tmp_path: Path, cgroup: str, mountinfo: str, files: dict[str, str], expected: float
) -> None:
    assert available_bytes(machine(tmp_path, cgroup, mountinfo, files)) == expected


def test_unknown_is_endless(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) == math.inf


def test_this_machine_has_some() -> None:
    assert available_bytes() > 1 << 20
