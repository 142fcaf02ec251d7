"""Real servers on loopback with tiny random checkpoints."""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from resonance import GPT2, ChatTemplate, Checkpoint, GPT2Config, Tokenizer
from resonance.metadata import Metadata
from serve.storage.database import StoreUnavailable
from serve.storage.store import Store

START_SECONDS = 240.0  # torch is imported twice, and the machine may be busy
CONTEXT = 8192  # long enough for answers that are under way while a test looks at them


@dataclass
class Running:
    """A server process; `base` is its address."""

    process: subprocess.Popen[str]
    base: str
    log: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.base, timeout=200)

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait for /health to say ok."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                pytest.fail(f"the server ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
            with contextlib.suppress(httpx.HTTPError):
                if self.client.get("/health").status_code == 200:
                    return
            time.sleep(0.1)
        pytest.fail(f"the server was not ready after {seconds} s:\n{self.log.read_text()[-3000:]}")

    def metric(self, name: str, headers: dict[str, str] | None = None) -> float:
        """The value of a metric without labels."""
        for line in self.client.get("/metrics", headers=headers).text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise AssertionError(f"there is no metric {name}")

    def until(self, check: Callable[[], bool], seconds: float = 100.0) -> bool:
        """Whether something becomes true in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if check():
                return True
            time.sleep(0.02)
        return False

    def leave_once(self, body: dict[str, Any], begun: Callable[[], bool]) -> None:
        """Send a chat request, and hang up without its answer as soon as `begun` is true."""
        connection = http.client.HTTPConnection(self.base.removeprefix("http://"), timeout=200)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body=json.dumps(body), headers=headers)
        assert self.until(begun)
        connection.close()

    def children(self) -> list[int]:
        """The ids of all processes that the server has started."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
        found, wanted = [], {self.process.pid}
        while wanted:
            wanted = {pid for pid, parent in parents.items() if parent in wanted}
            found += wanted
        return found

    def worker(self) -> int:
        """The id of the process that holds the model: the one with the most memory."""
        return max(self.children(), key=lambda pid: _private_bytes(pid))

    def stop(self) -> int:
        """End the server as a supervisor does; return its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=100)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def _private_bytes(pid: int) -> int:
    """Memory that a process has for itself; what was forked is shared."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def alive() -> Callable[[int], bool]:
    """Tells whether a process exists."""
    return is_alive


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tiny checkpoints, `tiny` and `other`, of random weights."""
    root = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("tiny", "other")):
        torch.manual_seed(seed)
        config = GPT2Config(context_length=CONTEXT, n_layer=2, n_head=2, n_embd=32)
        metadata = Metadata(steps=7, scores={"instruct": {"exact_match": {"value": 0.5, "n": 10}}})
        Checkpoint.save(root / name, GPT2(config), Tokenizer.gpt2(), metadata)
    return root


Start = Callable[..., Running]


@pytest.fixture(scope="session")
def launch(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers; all are ended after the last test."""
    started: list[Running] = []
    kernels = tmp_path_factory.mktemp("kernels")  # compiled once for all servers

    def start(*overrides: str, ready: bool = True, **environment: str) -> Running:
        home = tmp_path_factory.mktemp("home")
        (home / "kernels").symlink_to(kernels)
        port = next((o.removeprefix("port=") for o in overrides if o.startswith("port=")), None) or str(free_port())
        log = home / "server.log"
        command = [
            sys.executable,
            "-m",
            "resonance.cli",
            "serve",
            f"root={runs}",
            f"port={port}",
            "dtype=fp32",
            *overrides,
        ]
        env = os.environ | {"RESONANCE_HOME": str(home), "OMP_NUM_THREADS": "1"} | environment
        process = subprocess.Popen(
            command, stdout=log.open("w"), stderr=subprocess.STDOUT, env=env, text=True, cwd=home
        )
        running = Running(process, f"http://127.0.0.1:{port}", log)
        started.append(running)
        if ready:
            running.wait_until_ready()
        return running

    yield start
    for running in started:
        with contextlib.suppress(Exception):
            running.stop()


@pytest.fixture(scope="session")
def server(launch: Start) -> Running:
    """A server with two checkpoints, a batch of four and two places in the queue, for tests that leave it whole."""
    # auth=none: tests add admin keys to it, which would close a server with auth=auto.
    # Answers outlive their readers by less than the default, which some tests wait for.
    return launch("checkpoint=[tiny,other]", "max_batch_size=4", "max_queue=2", "auth=none", "resume_s=5")


@pytest.fixture(scope="session")
def tools_server(launch: Start, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A server with a model whose template has tools, `caller`, and one whose template has none, `tiny`."""
    template = ChatTemplate.named("chatml")
    torch.manual_seed(3)
    config = GPT2Config(template.tokenizer.vocab_size, context_length=2048, n_layer=2, n_head=2, n_embd=32)
    folder = tmp_path_factory.mktemp("chatml") / "caller"
    Checkpoint.save(folder, GPT2(config), template.tokenizer, Metadata(template="chatml", steps=7))
    return launch(f"checkpoint=[{folder},tiny]", "max_batch_size=4", "max_queue=2", "auth=none", "limits.streams=64")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of our own on loopback; skipped where it is not installed."""
    pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    bin_folders = [Path(p) for p in os.environ["PATH"].split(":")] + sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = next((folder / "initdb" for folder in bin_folders if (folder / "initdb").is_file()), None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed on this machine")
    home = tmp_path_factory.mktemp("pg")
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        if not shutil.which("runuser"):
            pytest.skip("PostgreSQL does not run as root, and there is no runuser to run it as somebody else")
        as_user = ["runuser", "-u", "nobody", "--"]
        for folder in (home, *home.parents):
            if folder.stat().st_uid == 0 and folder.is_relative_to("/tmp") and folder != Path("/tmp"):
                folder.chmod(0o755)
        shutil.chown(home, "nobody")
    data = home / "data"
    subprocess.run([*as_user, initdb, "-D", data, "-U", "resonance", "--auth=trust", "--no-sync"], check=True,
                   capture_output=True)  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*as_user, initdb.parent / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", home, "-F"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"postgresql://resonance@127.0.0.1:{port}/postgres"
    for _ in range(300):
        with contextlib.suppress(StoreUnavailable):  # its port is open a while before it takes anybody
            asyncio.run(_answer(url))
            break
        time.sleep(0.1)
    yield url
    process.terminate()
    process.wait(timeout=20)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database's address; SQLite's is fresh, PostgreSQL's is emptied by the tests' own owners."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'conversations.sqlite'}"
    return request.getfixturevalue("postgres")


async def _answer(url: str) -> None:
    store = Store(url)
    try:
        await store.open()
    finally:
        await store.close()


@pytest.fixture
def empty_postgres(postgres: str) -> str:
    """A new, empty database of that PostgreSQL."""
    name = f"empty_{time.time_ns()}"
    asyncio.run(_make_database(postgres, name))
    return f"{postgres.rpartition('/')[0]}/{name}"


async def _make_database(url: str, name: str) -> None:
    import asyncpg  # optional, as the fixture above says

    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()


@pytest.fixture
def owner(request: pytest.FixtureRequest) -> str:
    """An owner for each test."""
    return request.node.name
