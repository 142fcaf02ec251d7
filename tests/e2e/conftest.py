"""The built page in a real Chromium, and a real server with tiny checkpoints that can be killed and come back."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import torch

from resonance import GPT2, Checkpoint, GPT2Config, Tokenizer
from resonance.cli import promote
from resonance.metadata import Metadata
from serve.web.scripts import chromium

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

WEB = Path(__file__).resolve().parents[2] / "serve" / "web"
CONTEXT = 16_384  # tokens: an answer of so many takes longer than what a test does meanwhile
PATIENCE = 60_000  # ms; the machine may be busy
SHORT = {"temperature": 0, "top_p": 1, "top_k": 0, "max_tokens": 24, "seed": 1}
DOCUMENT = "# Lighthouses\n\nThe lighthouse of Brakk was built in 1871 by Ada Holm and has ninety-one steps.\n"


@dataclass
class Server:
    """A server that can be killed and started again at the same address, with the same conversations."""

    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    checkpoints: str = "[tiny,other]"
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "resonance.cli", "serve", f"root={self.folder / 'runs'}", f"port={self.port}"]
        command += [f"limits.answer_bytes={1 << 24}"]  # an answer of CONTEXT tokens can be followed from its first on
        command += [f"checkpoint={self.checkpoints}", "search=documents", f"search.path={self.folder / 'documents'}"]
        env = os.environ | {"RESONANCE_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1"} | self.environment
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=env, cwd=self.folder, start_new_session=True
            )
        end = time.monotonic() + 240
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.base}/health").status_code == 200:
                    return
            time.sleep(0.2)
        pytest.fail("the server did not start:\n" + (self.folder / "server.log").read_text()[-3000:])

    def kill(self) -> None:
        """End it and all of its processes at once, as a power cut does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def metric(self, name: str) -> float:
        lines = httpx.get(f"{self.base}/metrics").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(name + " ")))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lets everybody in."""
    yield from _serving(tmp_path_factory, {})


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for a key: `open sesame`, or `another`."""
    yield from _serving(tmp_path_factory, {"RESONANCE_API_KEYS": "open sesame,another"})


@pytest.fixture
def learning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that follows the alias `production`, which is `tiny`."""
    yield from _serving(tmp_path_factory, {}, promoted="tiny")


def _serving(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], promoted: str | None = None
) -> Iterator[Server]:
    if not (WEB / "dist" / "index.html").is_file():
        pytest.skip("the page has not been built (make web)")
    if chromium.EXECUTABLE is None:
        pytest.skip("there is no Chromium on this machine")
    folder = tmp_path_factory.mktemp("page")
    for seed, name in enumerate(("tiny", "other")):
        torch.manual_seed(seed)
        model = GPT2(GPT2Config(context_length=CONTEXT, n_layer=2, n_head=2, n_embd=32))
        Checkpoint.save(folder / "runs" / name, model, Tokenizer.gpt2(), Metadata(steps=7, data="basics"))
    for name in ("documents", "home"):
        (folder / name).mkdir()
    (folder / "documents" / "lighthouses.md").write_text(DOCUMENT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        running = Server(folder, probe.getsockname()[1], environment)
    if promoted is not None:
        promote.main([f"root={folder / 'runs'}", "verify=false", f"run={promoted}"])
        running.checkpoints = "production"
    running.start()
    yield running
    running.kill()


Open = Callable[..., "sync_api.Page"]


@pytest.fixture
def open_page(server: Server, browser: "sync_api.Browser") -> Iterator[Open]:
    """Opens the page as one reader; no test may leave an error in the console or break the page's policy.

    `sampling` is what differs from short, greedy answers; `settings` are the page's others; the rest is Playwright's.
    """
    complaints: list[str] = []
    contexts: list[sync_api.BrowserContext] = []

    def start(
        path: str = "/", *, sampling: dict | None = None, settings: dict | None = None, **options
    ) -> "sync_api.Page":
        context = browser.new_context(**{"base_url": server.base, "locale": "en-US"} | options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        state = json.dumps({"state": {"sampling": SHORT | (sampling or {})} | (settings or {}), "version": 3})
        seed = f"localStorage.setItem('resonance.settings', {json.dumps(state)})"
        # A sandboxed frame has no storage.
        context.add_init_script(f"self === top && (localStorage.getItem('resonance.settings') ?? ({seed}))")
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: "Content Security Policy" in line.text and complaints.append(line.text))
        page.goto(path)
        return page

    expect.set_options(timeout=PATIENCE)
    yield start
    for context in contexts:
        context.close()
    assert complaints == []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each browser test a second try: Chromium, server and tests share two cores. The summary says RERUN of it."""
    for item in items:
        if item.get_closest_marker("browser") is not None:
            item.add_marker(pytest.mark.flaky(reruns=1))
