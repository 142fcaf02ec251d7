"""Checkpoints that come, change and go while the server runs, by an admin key."""

import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import httpx
import pytest
import torch

from resonance import GPT2, Checkpoint, GPT2Config, Tokenizer
from resonance.errors import ResonanceError
from resonance.metadata import Metadata
from serve.keys import main as keys
from serve.models.memory_budget import MemoryBudget
from serve.run import make_server
from serve.settings import EngineSettings, read_settings
from serve.workers.shared_state import WorkerState
from serve.workers.supervisor import _Life

GREEDY = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "temperature": 0,
          "logit_bias": {"50256": -100}}  # fmt: skip


@pytest.fixture
def make_key(server, monkeypatch, capsys):
    """Makes a key in the running server's home; returns the header that carries it."""
    monkeypatch.setenv("RESONANCE_HOME", str(server.log.parent))

    def make(name: str, *more: str) -> dict[str, str]:
        keys(["action=add", f"name={name}", *more])
        return {"Authorization": f"Bearer {capsys.readouterr().out.strip()}"}

    yield make
    (server.log.parent / "api-keys.json").unlink(missing_ok=True)


@pytest.fixture
def third(runs):
    """A checkpoint that the server does not know of yet; calling it writes it with weights from a seed."""

    def write(seed: int) -> None:
        torch.manual_seed(seed)
        config = GPT2Config(context_length=256, n_layer=2, n_head=2, n_embd=32)
        Checkpoint.save(runs / "third", GPT2(config), Tokenizer.gpt2(), Metadata(steps=seed))

    yield write
    shutil.rmtree(runs / "third", ignore_errors=True)


def text(server, **fields) -> str:
    response = server.client.post("/v1/chat/completions", json=GREEDY | fields)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def names(server) -> list[str]:
    return [model["id"] for model in server.client.get("/v1/models").json()["data"]]


def test_only_an_admin_key_changes_what_is_served(server, make_key):
    plain = make_key("plain")
    for headers, status in (({}, 403), (plain, 403), ({"Authorization": "Bearer nobody"}, 403)):
        for refused in (
            server.client.post("/v1/models", json={"checkpoint": "tiny"}, headers=headers),
            server.client.post("/v1/models/tiny/reload", headers=headers),
            server.client.delete("/v1/models/other", headers=headers),
        ):
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, "not_an_admin")
    assert names(server) == ["tiny", "other"]


def test_a_checkpoint_is_loaded_read_again_and_unloaded_while_others_answer(server, make_key, third):
    admin = make_key("root", "admin=true")
    third(5)
    tiny = text(server)
    talking = threading.Event()
    wrong: list[str] = []

    def talk() -> None:
        while not talking.is_set():
            answer = text(server)
            if answer != tiny:
                wrong.append(answer)

    other = threading.Thread(target=talk)
    other.start()
    try:
        loaded = server.client.post("/v1/models", json={"checkpoint": "third"}, headers=admin)
        assert loaded.status_code == 200, loaded.text
        assert (loaded.json()["id"], loaded.json()["resonance"]["context_length"]) == ("third", 256)
        assert names(server) == ["tiny", "other", "third"]
        before = text(server, model="third")
        again = server.client.post("/v1/models", json={"checkpoint": "third"}, headers=admin)
        assert (again.status_code, again.json()["error"]["code"]) == (409, "already_loaded")

        third(6)
        assert text(server, model="third") == before  # a file that changes changes nothing until that is asked for
        reloaded = server.client.post("/v1/models/third/reload", headers=admin)
        assert reloaded.json()["resonance"]["steps"] == 6
        assert text(server, model="third") != before
        assert server.client.delete("/v1/models/third", headers=admin).json()["deleted"] is True
    finally:
        talking.set()
        other.join()
    assert not wrong
    assert names(server) == ["tiny", "other"]
    assert server.client.post("/v1/chat/completions", json=GREEDY | {"model": "third"}).status_code == 404


def test_requests_that_wait_while_a_checkpoint_is_read_again_are_all_answered(server, make_key, third):
    admin = make_key("root", "admin=true")
    third(5)
    assert server.client.post("/v1/models", json={"checkpoint": "third"}, headers=admin).status_code == 200
    over = threading.Event()
    outcomes: Counter[int] = Counter()

    def ask() -> None:
        with httpx.Client(base_url=server.base, timeout=200) as client:
            while not over.is_set():
                body = GREEDY | {"model": "third", "max_tokens": 60}
                outcomes[client.post("/v1/chat/completions", json=body).status_code] += 1

    threads = [threading.Thread(target=ask) for _ in range(8)]  # twice as many as the model answers at once
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert server.client.post("/v1/models/third/reload", headers=admin).status_code == 200
    finally:
        over.set()
        for thread in threads:
            thread.join()
        assert server.client.delete("/v1/models/third", headers=admin).status_code == 200
    assert set(outcomes) <= {200, 429}
    assert outcomes[200] > 8


ENGINE = EngineSettings(checkpoints={}, dtype="fp32", quantize=None, max_batch_size=8)
SMALL = GPT2Config(n_layer=2, n_head=2, n_embd=32)


def test_the_room_that_a_checkpoint_needs_is_worked_out_from_its_sizes():
    def needed(config: GPT2Config) -> float:
        return MemoryBudget(ENGINE.model_copy(update={"max_batch_size": 0}), None)._bytes(config) / 4

    for config in (SMALL, replace(SMALL, tie_weights=False), GPT2Config(n_layer=1)):
        assert needed(config) == GPT2(config).num_parameters()


@pytest.mark.parametrize(
    ("memory_gb", "held", "engine", "sentence"),
    [
        (
            0.01,
            [SMALL],
            ENGINE,
            r"new needs about 0\.01 GB and memory_gb=0\.01 leaves 0\.00 GB\. "
            r"Start the server with a larger memory_gb or quantize=int8 or max_batch_size=1\.",
        ),
        (0.02, [SMALL, SMALL], ENGINE, r"Unload another one \(DELETE /v1/models/NAME\), or start the server with"),
        (
            0.001,
            [],
            ENGINE.model_copy(update={"quantize": "int4", "max_batch_size": 1}),
            r"Start the server with a larger memory_gb\.$",
        ),
    ],
)
def test_too_little_room_is_said_with_what_there_is_and_what_to_do(memory_gb, held, engine, sentence):
    refusal = MemoryBudget(engine, memory_gb).refusal("new", SMALL, held)
    assert refusal is not None
    assert re.search(sentence, refusal)
    assert MemoryBudget(engine, 1.0).refusal("new", SMALL, held) is None


def test_checkpoints_that_are_too_large_together_do_not_start(runs):
    settings = read_settings([f"root={runs}", "checkpoint=[tiny,other]", "memory_gb=0.02"], {})
    with pytest.raises(ResonanceError, match=r"more than memory_gb=0\.02; serve fewer"):
        make_server(settings)


def test_what_cannot_be_loaded_changes_nothing(server, make_key, third, runs):
    admin = make_key("root", "admin=true")
    third(5)
    weights = runs / "third" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1000] ^= 0xFF
    weights.write_bytes(data)
    for name, status, code in (
        ("third", 400, "checkpoint_unusable"),
        ("nobody", 400, "checkpoint_unusable"),
        ("../tiny", 400, "invalid_value"),
        ("tiny", 409, "already_loaded"),
    ):
        refused = server.client.post("/v1/models", json={"checkpoint": name}, headers=admin)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert server.client.post("/v1/models/nobody/reload", headers=admin).status_code == 404
    assert server.client.delete("/v1/models/nobody", headers=admin).status_code == 404
    assert names(server) == ["tiny", "other"]
    assert text(server)


def test_an_admin_names_checkpoints_of_root_alone(server, make_key, runs, tmp_path):
    """The server's working directory has folders of its own, and a link inside root may lead anywhere."""
    admin = make_key("root", "admin=true")
    elsewhere = server.log.parent / "elsewhere"
    shutil.copytree(runs / "tiny", elsewhere, dirs_exist_ok=True)
    (runs / "link").symlink_to(elsewhere)
    try:
        for name in ("elsewhere", "link", "kernels", "..", ".", "server.log"):
            refused = server.client.post("/v1/models", json={"checkpoint": name}, headers=admin)
            error = refused.json()["error"]
            assert refused.status_code == 400, name
            assert "kernels" not in error["message"].replace(f"'{name}'", "")
            assert str(tmp_path) not in error["message"]
        for path in (str(elsewhere), "../elsewhere", "tiny/../tiny", "/etc", "~", ""):
            refused = server.client.post("/v1/models", json={"checkpoint": path}, headers=admin)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value"), path
        assert names(server) == ["tiny", "other"]
    finally:
        (runs / "link").unlink()


def test_a_hanging_worker_is_killed_and_told_of_once_however_long_it_takes_to_die(runs, caplog):
    server = make_server(read_settings([f"root={runs}", "checkpoint=tiny", "hang_s=1"], {}))
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    server.state.set_worker_state(0, WorkerState.READY)
    time.sleep(1.1)
    life = _Life(time.monotonic())
    try:
        for _ in range(5):  # looks of the watchdog while the process is still there
            server._kill_if_hanging(0, worker, life)
        assert worker.wait(timeout=60) == -9
        assert caplog.text.count("no sign of life") == 1
        life.start()
        server._kill_if_hanging(0, worker, life)
        assert caplog.text.count("no sign of life") == 2
    finally:
        worker.kill()
        worker.wait()
