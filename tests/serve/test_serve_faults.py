"""What happens when things go wrong: clients that leave, floods, killed processes, bad starts."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.processes import resonance

LONG = {
    "messages": [{"role": "user", "content": "Talk"}],
    "max_tokens": 8000,
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
    before = server.metric("resonance_generated_tokens_total")
    with server.client.stream("POST", "/v1/chat/completions", json=LONG) as response:
        lines = response.iter_lines()
        first_token(lines)
        assert server.metric("resonance_active_requests") == 1
        assert server.metric("resonance_batch_size") == 1
        assert server.until(lambda: server.metric("resonance_tokens_per_second") > 0)
    assert server.until(lambda: server.metric("resonance_active_requests") == 0)
    assert server.metric("resonance_batch_size") == 0
    assert server.metric("resonance_cancelled_requests_total") == cancelled + 1
    made = server.metric("resonance_generated_tokens_total")
    assert made - before < LONG["max_tokens"]
    time.sleep(0.3)
    assert server.metric("resonance_generated_tokens_total") == made


def test_a_whole_answer_whose_reader_leaves_frees_its_place_as_well(server):
    cancelled = server.metric("resonance_cancelled_requests_total")
    server.leave_once(LONG | {"stream": False}, lambda: server.metric("resonance_active_requests") == 1)
    assert server.until(lambda: server.metric("resonance_cancelled_requests_total") == cancelled + 1)
    assert server.until(lambda: server.metric("resonance_active_requests") == 0)


def test_requests_that_leave_the_queue_are_never_generated(server):
    def under_way() -> float:
        return server.metric("resonance_active_requests") + server.metric("resonance_queued_requests")

    with contextlib.ExitStack() as stack:
        streams = []  # a stream of lines that nobody holds is closed
        for _ in range(4):
            response = stack.enter_context(server.client.stream("POST", "/v1/chat/completions", json=LONG))
            streams.append(response.iter_lines())
            first_token(streams[-1])
        prompts = server.metric("resonance_prompt_tokens_total")
        waiting = LONG | {"messages": [{"role": "user", "content": "This one is never read"}], "stream": False}
        server.leave_once(waiting, lambda: under_way() == 5)
        assert server.until(lambda: under_way() == 4)
        assert server.metric("resonance_prompt_tokens_total") == prompts
    assert server.until(lambda: server.metric("resonance_active_requests") == 0)
    assert server.metric("resonance_prompt_tokens_total") == prompts


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
        with httpx.Client(base_url=server.base, timeout=200) as client:
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
    assert slowest < 30  # the clients of this test take most of the processor; the slow load test measures


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


def refuses_connections(base: str) -> bool:
    """Whether the port is closed; one that is open to nobody who answers keeps its callers waiting."""
    try:
        httpx.get(f"{base}/health", timeout=0.5)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        pass
    return False


class Watcher:
    """Asks again and again how the server is and whether it answers, until it is told to stop."""

    def __init__(self, server) -> None:
        self.health: Counter[tuple[int, str]] = Counter()
        self.refusals: list[httpx.Response] = []
        self._server, self._over = server, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        with httpx.Client(base_url=self._server.base, timeout=200) as client:
            while not self._over.is_set():
                health = client.get("/health")
                self.health[health.status_code, health.json()["status"]] += 1
                if health.status_code == 503:
                    answer = client.post("/v1/chat/completions", json=LONG | {"stream": False, "max_tokens": 1})
                    if answer.status_code == 503:
                        self.refusals.append(answer)
                time.sleep(0.02)


def test_a_killed_worker_is_replaced_and_everybody_is_told(launch, alive):
    server = launch("checkpoint=tiny", "max_batch_size=4", "grace_s=200")
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
        assert server.until(lambda: server.metric("resonance_active_requests") == 2)
        with Watcher(server) as watcher:
            os.kill(worker, signal.SIGKILL)
            killed = time.monotonic()
            rest = list(lines)
            seconds = time.monotonic() - killed
            other.join()
            assert server.until(lambda: server.metric("resonance_worker_restarts_total") == 1)
            server.wait_until_ready()
    assert seconds < 30  # 2 on a machine that does nothing else
    assert rest[-2] == "data: [DONE]"
    error = next(rest[i + 1] for i, line in enumerate(rest) if line == "event: error")
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "worker_lost"
    assert told["whole"] == (503, "worker_lost")
    assert {status for status in watcher.health if status != (200, "ok")} <= {(503, "loading"), (503, "down")}
    assert watcher.refusals
    assert all(refusal.headers["Retry-After"] for refusal in watcher.refusals)
    assert server.client.post("/v1/chat/completions", json=LONG | {"stream": False, "max_tokens": 3}).status_code == 200
    kept = server.client.get("/v1/conversations/kept").json()["messages"]
    assert [m["role"] for m in kept] == ["user", "assistant"]
    assert kept[1]["finish_reason"] == "error"

    # The same server, at its end: an answer under way is finished, nothing new begins, nothing is left behind.
    children = server.children()
    with server.client.stream("POST", "/v1/chat/stream", json=LONG | {"max_tokens": 2500}) as response:
        lines = response.iter_lines()
        first_token(lines)
        server.process.send_signal(signal.SIGTERM)
        assert server.until(lambda: refuses_connections(server.base), seconds=3)
        assert server.process.poll() is None
        rest = list(lines)
    assert rest[-2] == "data: [DONE]"
    assert any('"finish_reason": "length"' in line for line in rest)
    assert not any(line == "event: error" for line in rest)
    assert server.process.wait(timeout=200) == 0
    assert server.until(lambda: not any(alive(pid) for pid in children))
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.base}/health")
    assert "Talk" not in server.log.read_text()


def of_multiprocessing(pid: int, what: str) -> bool:
    return f"multiprocessing.{what}" in Path(f"/proc/{pid}/cmdline").read_text()


def test_nothing_but_the_http_process_is_needed_and_its_end_is_the_servers_at_once(launch, alive):
    server = launch("checkpoint=tiny")
    short = LONG | {"stream": False, "max_tokens": 3}
    children = server.children()
    workers = [pid for pid in children if of_multiprocessing(pid, "spawn")]
    trackers = [pid for pid in children if of_multiprocessing(pid, "resource_tracker")]
    (http,) = set(children) - {*workers, *trackers}
    assert len(workers) == 1
    for pid in trackers:
        os.kill(pid, signal.SIGKILL)
    assert server.client.post("/v1/chat/completions", json=short).status_code == 200
    os.kill(workers[0], signal.SIGKILL)
    assert server.until(lambda: server.metric("resonance_worker_restarts_total") == 1)
    server.wait_until_ready()
    assert server.client.post("/v1/chat/completions", json=short).status_code == 200

    children = server.children()
    os.kill(http, signal.SIGKILL)
    assert server.process.wait(timeout=30) == 1
    assert server.until(lambda: not any(alive(pid) for pid in children))
    said = server.log.read_text()
    assert "Error: The HTTP process died; stopping.\n" in said
    assert "Traceback" not in said


def test_answers_that_outlast_the_grace_time_are_told_so_and_kept(launch):
    server = launch("checkpoint=tiny", "max_batch_size=1", "grace_s=1")
    with server.client.stream("POST", "/v1/chat/stream", json=LONG | {"session_id": "kept"}) as response:
        lines = response.iter_lines()
        first_token(lines)
        queued = socket.create_connection(("127.0.0.1", int(server.base.rpartition(":")[2])), timeout=200)
        data = json.dumps(LONG | {"stream": False})
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        queued.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n{data}".encode())
        assert server.until(lambda: server.metric("resonance_queued_requests") == 1)
        server.process.send_signal(signal.SIGTERM)
        rest = list(lines)
    error = next(rest[i + 1] for i, line in enumerate(rest) if line == "event: error")
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "shutting_down"
    assert rest[-2] == "data: [DONE]"
    with queued:
        assert queued.recv(65536).startswith(b"HTTP/1.1 503")
    assert server.process.wait(timeout=200) == 0
    assert "Traceback" not in server.log.read_text()
    with contextlib.closing(sqlite3.connect(next(server.log.parent.glob("*.sqlite")))) as database:
        kept = database.execute("SELECT role, finish_reason FROM messages ORDER BY position").fetchall()
    assert kept == [("user", None), ("assistant", "error")]


def serve(runs, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return resonance("serve", f"root={runs}", *overrides, environment=os.environ | environment)


def test_a_start_that_cannot_be_is_one_clear_line_and_exit_code_2(runs, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = serve(runs, "checkpoint=tiny", f"port={port}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert str(port) in done.stderr

    done = serve(runs, "checkpoint=tiny", "port=18000", "device=cuda", CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "no GPU" in done.stderr

    broken = tmp_path / "broken"
    shutil.copytree(runs / "tiny", broken)
    weights = broken / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1000] ^= 0xFF
    weights.write_bytes(data)
    done = serve(runs, f"checkpoint={broken}", "port=18000")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "damaged" in done.stderr
