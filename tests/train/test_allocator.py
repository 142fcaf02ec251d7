"""Memory that a training step frees is reused by the next one."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from train.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for step in range(30):
    if step == 20:  # by then the heap has grown to what the buffers and the gaps between them take
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)  # 40 MB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep memory")
def test_large_buffers_are_faulted_in_once_and_not_each_time() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("kept") * 20 < faults("given back")
