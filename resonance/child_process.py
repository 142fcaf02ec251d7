"""Starts commands that end when the process that started them ends, however that ends.

Run as a file, it asks the kernel for a signal at its parent's end and becomes the command, under the same process id.
Linux alone can send that signal; elsewhere the command runs as it is.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def ending_with_parent(command: Sequence[str], number: signal.Signals = signal.SIGTERM) -> list[str]:
    """The words that run `command` so that it gets the signal `number` when the thread that starts it has ended."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number)), *command]


def _become(parent: int, number: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it has ended before the kernel was asked
            os.kill(os.getpid(), number)
    os.execvp(command[0], command)


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
