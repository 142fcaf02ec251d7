"""A tiny released model on a server of files, and a RESONANCE_HOME to download it to."""

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from resonance.model import GPT2
from resonance.weights import huggingface, openai

from .file_server import HUB, TINY, Handler, Server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))  # of this process
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))  # of its children
    return tmp_path / "home"


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small model in both layouts, by the paths under which the real ones are served."""
    torch.manual_seed(5)
    state = GPT2(TINY).state_dict()
    hub, azure = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("azure")
    huggingface.write(hub, TINY, state)
    openai.write(azure, TINY, state)
    files = {f"{HUB}/{path.name}": path.read_bytes() for path in hub.iterdir()}
    return files | {f"/gpt-2/models/124M/{path.name}": path.read_bytes() for path in azure.iterdir()}


@pytest.fixture
def server(released: dict[str, bytes]) -> Iterator[Server]:
    state = Server(files=dict(released))
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"server_state": state}))
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    state.closing.set()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def folder(home: Path) -> Path:
    return home / "weights" / "gpt2"
