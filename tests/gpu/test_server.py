"""`resonance serve device=cuda`: 64 streams at once, and a worker that is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

STREAMS = 64
START_SECONDS = 120


@pytest.fixture
def port(device: torch.device, trained: Path, tmp_path: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "resonance.cli", "serve", f"checkpoint={trained.name}", f"root={trained.parent}",
        f"device={device.type}", f"port={number}", f"max_batch_size={STREAMS}", f"store.url=sqlite:///{tmp_path}/store.sqlite",
    ]  # fmt: skip
    environment = {**os.environ, "RESONANCE_HOME": str(tmp_path / "home")}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            _wait(number, tmp_path / "log")
            yield number
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def _wait(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if _health(port)["status"] == "ok":
                return
        except OSError:
            pass
        time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()[-3000:]}")


def _health(port: int) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
        return json.load(answer)


def _stream(port: int, number: int) -> str:
    body = {"messages": [{"role": "user", "content": f"Say {number}"}], "max_tokens": 32, "stream": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read().decode()


def test_64_streams_end_and_a_killed_worker_is_replaced(port: int) -> None:
    with ThreadPoolExecutor(STREAMS) as pool:
        answers = list(pool.map(lambda number: _stream(port, number), range(STREAMS)))
    assert all(answer.rstrip().endswith("data: [DONE]") for answer in answers)
    workers = [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_worker(entry, os.getpid())
    ]
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if _stream(port, 1).rstrip().endswith("data: [DONE]"):
                return
        except OSError:
            pass
        time.sleep(1)
    pytest.fail("no worker answers after the old one was killed")


def _is_worker(entry: Path, ancestor: int) -> bool:
    # A process of multiprocessing that one of this test's servers has spawned.
    try:
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
        if b"spawn_main" not in command:
            return False
        pid = int(entry.name)
        while pid > 1:
            pid = int((Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if pid == ancestor:
                return True
    except (OSError, IndexError, ValueError):
        pass
    return False
