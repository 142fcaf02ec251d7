"""What happens when things go wrong: clients that leave, floods, killed processes, bad starts."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import pytest

LONG = {
    "messages": [{"role": "user", "content": "Talk"}],
    "max_tokens": 1900,
    "logit_bias": {"50256": -100},
    "stream": True,
}


def first_token(lines) -> None:
    for line in lines:
        if line.startswith("data: {") and json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content"):
            return
    raise AssertionError("the stream ended before its first token")


def test_a_stream_whose_reader_leaves_frees_its_place_at_once(server):
    cancelled = server.metric("resonance_cancelled_requests_total")
    with server.client.stream("POST", "/v1/chat/completions", json=LONG) as response:
        lines = response.iter_lines()
        first_token(lines)
        assert server.metric("resonance_active_requests") == 1
    assert server.until(lambda: server.metric("resonance_active_requests") == 0, 2)
    assert server.metric("resonance_cancelled_requests_total") == cancelled + 1
    made = server.metric("resonance_generated_tokens_total")
    time.sleep(0.3)
    assert server.metric("resonance_generated_tokens_total") == made


def test_a_whole_answer_whose_reader_leaves_frees_its_place_as_well(server):
    cancelled = server.metric("resonance_cancelled_requests_total")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.base}/v1/chat/completions", json=LONG | {"stream": False}, timeout=0.7)
    assert server.until(lambda: server.metric("resonance_cancelled_requests_total") == cancelled + 1, 3)
    assert server.until(lambda: server.metric("resonance_active_requests") == 0, 2)


def test_requests_that_leave_the_queue_are_never_generated(server):
    with contextlib.ExitStack() as stack:
        streams = []  # a stream of lines that nobody holds is closed
        for _ in range(4):
            response = stack.enter_context(server.client.stream("POST", "/v1/chat/completions", json=LONG))
            streams.append(response.iter_lines())
            first_token(streams[-1])
        prompts = server.metric("resonance_prompt_tokens_total")
        waiting = LONG | {"messages": [{"role": "user", "content": "This one is never read"}]}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.base}/v1/chat/completions", json=waiting | {"stream": False}, timeout=0.5)
        assert server.metric("resonance_prompt_tokens_total") == prompts
    assert server.until(lambda: server.metric("resonance_active_requests") == 0)


def test_a_flood_is_answered_right_or_refused_with_429_while_health_stays_quick(server):
    """The server has ten places: four for each of two models, and two to wait in."""
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 8,
        "temperature": 0,
        "logit_bias": {"50256": -100},
    }
    expected = server.client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    outcomes: Counter[int] = Counter()
    wrong: list[str] = []
    slowest = 0.0
    over = threading.Event()

    def flood() -> None:
        with httpx.Client(base_url=server.base, timeout=60) as client:
            for _ in range(6):
                response = client.post("/v1/chat/completions", json=body)
                outcomes[response.status_code] += 1
                if response.status_code == 429:
                    assert int(response.headers["Retry-After"]) >= 1
                    assert response.json()["error"]["type"] == "rate_limit_error"
                elif response.json()["choices"][0]["message"]["content"] != expected:
                    wrong.append(response.text)

    def look() -> None:
        nonlocal slowest
        while not over.is_set():
            began = time.monotonic()
            assert server.client.get("/health").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.02)

    looking = threading.Thread(target=look)
    looking.start()
    threads = [threading.Thread(target=flood) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    looking.join()
    assert set(outcomes) == {200, 429}
    assert sum(outcomes.values()) == 240
    assert not wrong
    assert slowest < 5  # the clients of this test take most of the processor


def test_missed_events_are_replayed_to_a_client_that_comes_back(server):
    body = LONG | {"max_tokens": 10, "seed": 4}
    with server.client.stream("POST", "/v1/chat/stream", json=body) as response:
        whole = "\n".join(response.iter_lines())
    events = whole.split("\n\n")
    ids = [event.split("\n")[0].removeprefix("id: ") for event in events if event.startswith("id: ")]
    assert len(set(ids)) == len(ids) > 5
    again = server.client.post("/v1/chat/stream", json=body, headers={"Last-Event-ID": ids[3]})
    assert again.text.strip() == "\n\n".join(events[4:]).strip()
    gone = server.client.post("/v1/chat/stream", json=body, headers={"Last-Event-ID": "chatcmpl-nobody:3"})
    assert gone.status_code == 404
    assert gone.json()["error"]["code"] == "stream_gone"


def test_a_killed_worker_is_replaced_and_everybody_is_told(launch, alive):
    server = launch("checkpoint=tiny", "max_batch_size=4")
    worker = server.worker()
    told: dict[str, object] = {}

    def whole() -> None:
        response = server.client.post("/v1/chat/completions", json=LONG | {"stream": False})
        told["whole"] = (response.status_code, response.json()["error"]["code"])

    other = threading.Thread(target=whole)
    with server.client.stream("POST", "/v1/chat/stream", json=LONG | {"session_id": "kept"}) as response:
        lines = response.iter_lines()
        first_token(lines)
        other.start()
        server.until(lambda: server.metric("resonance_active_requests") == 2)
        os.kill(worker, signal.SIGKILL)
        killed = time.monotonic()
        rest = list(lines)
        assert time.monotonic() - killed < 3
    assert rest[-2] == "data: [DONE]"
    error = next(rest[i + 1] for i, line in enumerate(rest) if line == "event: error")
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "worker_lost"
    other.join(timeout=5)
    assert told["whole"] == (503, "worker_lost")
    down = server.client.get("/health")
    assert down.status_code == 503
    assert down.json()["status"] in ("loading", "down")
    refused = server.client.post("/v1/chat/completions", json=LONG)
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    server.wait_until_ready()
    assert server.client.post("/v1/chat/completions", json=LONG | {"stream": False, "max_tokens": 3}).status_code == 200
    assert server.metric("resonance_worker_restarts_total") == 1
    kept = server.client.get("/v1/conversations/kept").json()["messages"]
    assert [m["role"] for m in kept] == ["user", "assistant"]
    assert kept[1]["finish_reason"] == "error"

    # The same server, at its end: an answer under way is finished, nothing new begins, nothing is left behind.
    children = server.children()
    with server.client.stream("POST", "/v1/chat/stream", json=LONG | {"max_tokens": 300}) as response:
        lines = response.iter_lines()
        first_token(lines)
        server.process.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert rest[-2] == "data: [DONE]"
    assert '"finish_reason": "length"' in rest[-8] + rest[-5]
    assert server.process.wait(timeout=30) == 0
    assert not any(alive(pid) for pid in children)
    assert "Talk" not in server.log.read_text()


def test_nothing_outlives_a_main_process_that_is_killed(launch, alive):
    server = launch("checkpoint=tiny", "max_batch_size=4", RESONANCE_API_KEYS="first-secret,second-secret")
    # While it lives: keys are asked for, and each key has its own conversations.
    assert server.client.get("/health").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic first-secret"}):
        refused = server.client.get("/v1/models", headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"
        assert server.client.get("/metrics", headers=headers).status_code == 401
    mine, yours = ({"Authorization": f"Bearer {key}-secret"} for key in ("first", "second"))
    body = {"messages": [{"role": "user", "content": "Mine"}], "max_tokens": 2, "session_id": "same"}
    answer = server.client.post("/v1/chat/completions", json=body, headers=mine).json()
    path = "/v1/conversations/same"
    assert server.client.get(path, headers=mine).status_code == 200
    for response in (
        server.client.get(path, headers=yours),
        server.client.patch(path, json={"title": "x"}, headers=yours),
        server.client.delete(path, headers=yours),
        server.client.put(f"{path}/messages/{answer['id']}/feedback", json={"rating": 1}, headers=yours),
    ):
        assert response.status_code == 404
    assert server.client.get("/v1/conversations", headers=yours).json()["data"] == []
    replayed = server.client.post("/v1/chat/stream", json=body, headers=yours | {"Last-Event-ID": f"{answer['id']}:0"})
    assert replayed.status_code == 404
    assert "secret" not in server.log.read_text()

    children = server.children()
    assert len(children) >= 3
    server.process.kill()
    server.process.wait()
    end = time.monotonic() + 5
    while any(alive(pid) for pid in children) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in children)


def serve(runs, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "resonance.cli", "serve", f"root={runs}", *overrides]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_a_start_that_cannot_be_is_one_clear_line_and_exit_code_2(runs, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve(runs, "checkpoint=tiny", f"port={port}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert str(port) in done.stderr

    broken = tmp_path / "broken"
    shutil.copytree(runs / "tiny", broken)
    weights = broken / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1000] ^= 0xFF
    weights.write_bytes(data)
    done = serve(runs, f"checkpoint={broken}", "port=18000")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "damaged" in done.stderr
