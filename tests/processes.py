"""`resonance` in processes of their own, forked from one that has made the slow imports.

Importing torch, Lightning and Hydra takes six seconds, most of what a small run takes. A process forked from one that
did so once is killed, interrupted and waited for as any other is.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["resonance.cli.main", "train.run", "serve.run", "lightning.pytorch"])


class Running:
    """`resonance` with these arguments, which has begun. Its output goes to files, read by `finish`."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="resonance-process-")
        self._files = Path(self._folder.name) / "out", Path(self._folder.name) / "err"
        wanted = dict(os.environ if environment is None else environment)
        self._arguments = list(arguments)
        # Not daemonic: a daemonic process could start none of its own, as reading data does.
        self._process = _CONTEXT.Process(target=_become, args=(self._arguments, wanted, str(Path.cwd()), *self._files))
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, negative for a signal's number; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait_for_lines(self, file: Path, count: int, seconds: float = 120) -> None:
        """Wait until the file has more than so many lines, while the process runs."""
        deadline = time.monotonic() + seconds
        while not (file.is_file() and len(file.read_text().splitlines()) > count):
            assert self.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)

    def finish(self, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        """Wait for its end; its exit code and what it printed."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"resonance {' '.join(self._arguments)} has not ended after {seconds} seconds")
        output, errors = (file.read_text() if file.exists() else "" for file in self._files)
        self._folder.cleanup()
        return subprocess.CompletedProcess(self._arguments, self._process.exitcode, output, errors)

    def kill(self) -> None:
        """End it at once, as the system does when memory is short."""
        self.send_signal(signal.SIGKILL)
        self.finish()


def resonance(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `resonance` with these arguments to its end."""
    return Running(arguments, environment).finish()


def _become(arguments: list[str], environment: dict[str, str], folder: str, out: Path, err: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, stream.fileno())
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["resonance", *arguments]

    from resonance.cli.main import main

    main(arguments)
