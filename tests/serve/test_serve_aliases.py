"""A server of an alias follows it: new requests go to the promoted run, running streams end on the old one."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resonance.cli import promote

from .conftest import Running, Start

GREEDY = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 200, "temperature": 0,
          "logit_bias": {"50256": -100}}  # fmt: skip


@pytest.fixture(scope="module")
def root(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(runs, tmp_path_factory.mktemp("promoted") / "runs"))


@pytest.fixture(scope="module")
def promoted(launch: Start, root: Path) -> Iterator[Running]:
    promote.main([f"root={root}", "verify=false", "run=tiny"])
    server = launch("checkpoint=production", f"root={root}")
    yield server
    server.stop()


def served(server: Running) -> str:
    (model,) = server.client.get("/v1/models").json()["data"]
    assert model["id"] == "production"
    return model["resonance"]["checkpoint"]


def text(server: Running, **fields: object) -> str:
    response = server.client.post("/v1/chat/completions", json=GREEDY | fields)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def stream(server: Running, answers: list[str], begun: threading.Semaphore) -> None:
    with server.client.stream("POST", "/v1/chat/completions", json=GREEDY | {"stream": True}) as response:
        parts: list[str] = []
        for line in response.iter_lines():
            if line.startswith("data: {"):
                delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
                parts.append(delta.get("content") or "")
                if len(parts) == 2:
                    begun.release()
            elif line.startswith("data: "):
                assert line == "data: [DONE]"
    answers.append("".join(parts))


def test_a_promotion_moves_new_requests_and_drops_no_stream_and_back_again(promoted: Running, root: Path) -> None:
    assert served(promoted) == "tiny"
    old = text(promoted)
    answers: list[str] = []
    begun = threading.Semaphore(0)
    streams = [threading.Thread(target=stream, args=(promoted, answers, begun)) for _ in range(8)]
    for thread in streams:
        thread.start()
    assert begun.acquire(timeout=60)
    promote.main([f"root={root}", "verify=false", "run=other"])
    assert promoted.until(lambda: served(promoted) == "other")
    assert promoted.client.get("/health").json()["status"] == "ok"
    new = text(promoted)
    assert new != old
    assert text(promoted, model="production") == text(promoted, model="other") == new
    for thread in streams:
        thread.join(120)
    assert len(answers) == 8
    assert set(answers) <= {old, new}
    assert old in answers
    promote.main([f"root={root}", "back=true"])
    assert promoted.until(lambda: served(promoted) == "tiny")
    assert text(promoted) == old


def test_an_answer_is_stored_with_the_run_that_gave_it(promoted: Running) -> None:
    text(promoted, session_id="whose", max_tokens=4)
    answer = promoted.client.get("/v1/conversations/whose").json()["messages"][-1]
    assert answer["model"] == served(promoted)


def test_a_promoted_run_that_cannot_be_loaded_leaves_the_old_one_in_service(promoted: Running, root: Path) -> None:
    before, old = served(promoted), text(promoted)
    broken = Path(shutil.copytree(root / "other", root / "broken"))
    weights = broken / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-5] ^= 1
    weights.write_bytes(damaged)
    promote.main([f"root={root}", "verify=false", "run=broken"])
    assert promoted.until(lambda: "production is broken now, which cannot be served" in promoted.log.read_text())
    time.sleep(0.1)
    assert served(promoted) == before
    assert text(promoted) == old
