"""Checkpoints that come, change and go while the server runs, by an admin key."""

import shutil
import threading

import pytest
import torch

from resonance import GPT2, Checkpoint, GPT2Config, Tokenizer
from resonance.checkpoint import Metadata
from serve.keys import main as keys

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
