"""Limits by key, by time, and what a database that does not answer takes down with it; one strict server for all."""

import contextlib
import json
import resource
import socket
import sqlite3
import threading
import time

import httpx
import pytest

from serve.api.errors import ApiError
from serve.middleware.rate_limits import RateLimiter
from serve.settings import Limits

LONG = {"messages": [{"role": "user", "content": "Talk"}], "max_tokens": 8000, "n": 16, "logit_bias": {"50256": -100}}
SHORT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def strict(launch):
    """Each test has a key of its own, so that none uses up another's allowance."""
    return launch(
        "checkpoint=tiny",
        "max_batch_size=4",
        "timeout_s=6.0",
        "resume_s=30",
        "cors_origins=['https://chat.example.org']",
        "limits.receive_s=4",
        "limits.requests_per_minute=6",
        "limits.tokens_per_minute=300",
        "limits.streams=2",
        "store.max_bytes=400000",
        RESONANCE_API_KEYS=",".join([*(f"key-{i}" for i in range(13)), *(f"tokens-{i}" for i in range(4))]),
    )


def key(i: int) -> dict[str, str]:
    return {"Authorization": f"Bearer key-{i}"}


def test_a_key_has_so_many_requests_a_minute_and_others_are_not_hurt(strict):
    answers = [strict.client.post("/v1/chat/completions", json=SHORT, headers=key(0)) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 6 + [429]
    assert answers[-1].json()["error"]["code"] == "requests_per_minute"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 61
    assert strict.client.post("/v1/chat/completions", json=SHORT, headers=key(1)).status_code == 200


def test_tokens_a_minute_are_counted_over_requests(strict):
    body = LONG | {"max_tokens": 75, "n": 2}
    answers = [strict.client.post("/v1/chat/completions", json=body, headers=key(6)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].json()["error"]["code"] == "tokens_per_minute"


def test_the_tokens_of_prompts_count_in_chats_completions_and_scorings(strict):
    chat = ("/v1/chat/completions", {"messages": [{"role": "user", "content": "one two " * 60}], "max_tokens": 1})
    raw = ("/v1/completions", {"prompt": [[7] * 80, [8] * 80], "max_tokens": 1})
    scoring = ("/v1/completions", {"prompt": [[7] * 80, [8] * 80], "max_tokens": 0, "echo": True, "logprobs": 0})
    for i, (path, body) in enumerate((chat, raw, scoring)):
        headers = {"Authorization": f"Bearer tokens-{i}"}
        answers = [strict.client.post(path, json=body, headers=headers) for _ in range(4)]
        used = answers[0].json()["usage"]["total_tokens"]
        assert 120 < used < 200
        assert [answer.status_code for answer in answers] == [200] * -(-300 // used) + [429] * (4 - -(-300 // used))
        assert answers[-1].json()["error"]["code"] == "tokens_per_minute"


def test_prompts_of_more_tokens_than_a_minute_has_are_refused(strict):
    body = {"prompt": [[7] * 151, [8] * 150], "max_tokens": 0, "echo": True, "logprobs": 0}
    refused = strict.client.post("/v1/completions", json=body, headers={"Authorization": "Bearer tokens-3"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "tokens_per_minute")
    assert "301 tokens, and the limit is 300 a minute" in refused.json()["error"]["message"]


def test_what_goes_over_the_limit_is_owed_for_as_many_minutes_as_it_takes(monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    limits = Limits.model_construct(
        body_bytes=1,
        bodies_bytes=1,
        answer_bytes=1,
        answers_bytes=1,
        receive_s=1,
        write_s=1,
        connections=1,
        connections_per_address=None,
        exports=1,
        messages=1,
        message_chars=1,
        prompt_logprobs=1,
        import_lines=1,
        requests_per_minute=None,
        tokens_per_minute=10,
        streams=None,
    )
    limiter = RateLimiter(limits)
    with limiter.admit("ann"):
        limiter.spend_prompt("ann", 10)
        limiter.spend("ann", 25)
    for _ in range(2):
        now += 61
        with pytest.raises(ApiError) as refusal, limiter.admit("ann"):
            pass
        assert (refusal.value.status, refusal.value.code) == (429, "tokens_per_minute")
        with limiter.admit("bob"):
            pass
    now += 61
    with limiter.admit("ann"):
        pass


def test_a_wrong_key_is_refused_and_each_key_has_its_own_conversations(strict):
    assert strict.client.get("/health").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic key-9"}):
        refused = strict.client.get("/v1/models", headers=headers)
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"
        assert strict.client.get("/metrics", headers=headers).status_code == 401
    mine, yours = key(9), key(10)
    body = SHORT | {"session_id": "same"}
    answer = strict.client.post("/v1/chat/completions", json=body, headers=mine).json()
    path = "/v1/conversations/same"
    assert strict.client.get(path, headers=mine).status_code == 200
    for response in (
        strict.client.get(path, headers=yours),
        strict.client.patch(path, json={"title": "x"}, headers=yours),
        strict.client.delete(path, headers=yours),
        strict.client.put(f"{path}/messages/{answer['id']}/feedback", json={"rating": 1}, headers=yours),
    ):
        assert response.status_code == 404
    assert strict.client.get("/v1/conversations", headers=yours).json()["data"] == []
    missed = yours | {"Last-Event-ID": f"{answer['id']}:0"}
    assert strict.client.post("/v1/chat/stream", json=body, headers=missed).status_code == 404
    assert "key-9" not in strict.log.read_text()


def test_an_answer_goes_on_for_a_client_that_comes_back(strict):
    body = LONG | {
        "max_tokens": 40,
        "n": 1,
        "session_id": "resumed",
        "seed": 3,
        "stream_options": {"include_usage": False},
    }
    with strict.client.stream("POST", "/v1/chat/stream", json=body, headers=key(4)) as response:
        lines = response.iter_lines()
        seen = [line for line, _ in zip(lines, range(12), strict=False)]
    last = [line for line in seen if line.startswith("id: ")][-2].removeprefix("id: ")
    rest = strict.client.post("/v1/chat/stream", json=body, headers=key(4) | {"Last-Event-ID": last}).text
    ids = [line.removeprefix("id: ") for line in rest.splitlines() if line.startswith("id: ")]
    name, _, number = last.rpartition(":")
    assert ids == [f"{name}:{int(number) + 1 + i}" for i in range(len(ids))]
    assert rest.rstrip().endswith("data: [DONE]")
    stored = strict.client.get("/v1/conversations/resumed", headers=key(4)).json()["messages"][1]
    assert (stored["finish_reason"], stored["usage"]["completion_tokens"]) == ("length", 40)


def test_a_locked_database_takes_down_only_what_needs_it(strict):
    strict.client.post("/v1/chat/completions", json=SHORT | {"session_id": "before"}, headers=key(5))
    database = next(strict.log.parent.glob("*.sqlite"))
    with sqlite3.connect(database, isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        stored = strict.client.post("/v1/chat/completions", json=SHORT | {"session_id": "locked"}, headers=key(5))
        assert (stored.status_code, stored.json()["error"]["code"]) == (503, "store_unavailable")
        assert stored.headers["Retry-After"]
        assert strict.client.post("/v1/chat/completions", json=SHORT, headers=key(5)).status_code == 200
        assert strict.client.get("/health").status_code == 200
        assert strict.metric("resonance_active_requests", key(5)) == 0
        lock.execute("ROLLBACK")
    again = strict.client.post("/v1/chat/completions", json=SHORT | {"session_id": "locked"}, headers=key(5))
    assert again.status_code == 200


def test_a_full_disk_takes_down_only_what_needs_it_until_there_is_room(strict):
    """A disk that is full and a file that may not grow are the same to the database: it cannot write."""
    strict.client.post("/v1/chat/completions", json=SHORT | {"session_id": "full"}, headers=key(11))
    unlimited = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in strict.children()}
    try:
        for pid, (_, hard) in unlimited.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
        stored = strict.client.post("/v1/chat/completions", json=SHORT | {"session_id": "full"}, headers=key(11))
        assert (stored.status_code, stored.json()["error"]["code"]) == (503, "store_unavailable")
        assert strict.client.post("/v1/chat/completions", json=SHORT, headers=key(11)).status_code == 200
        assert strict.client.get("/v1/conversations/full", headers=key(11)).json()["message_count"] == 2
        assert strict.client.get("/health").status_code == 200
    finally:
        for pid, limits in unlimited.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    again = strict.client.post("/v1/chat/completions", json=SHORT | {"session_id": "full"}, headers=key(11))
    assert again.status_code == 200
    assert strict.client.get("/v1/conversations/full", headers=key(11)).json()["message_count"] == 4


def test_a_full_share_of_the_store_is_refused_by_name_until_something_is_deleted(strict):
    own = key(12)
    line = json.dumps({"messages": [{"role": "user", "content": "x" * 390_000}]})
    jsonl = own | {"Content-Type": "application/x-ndjson"}
    assert strict.client.post("/v1/conversations.jsonl", content=line, headers=jsonl).json()["imported"] == 1
    turn = SHORT | {"session_id": "more", "messages": [{"role": "user", "content": "-" * 12_000}]}
    more = strict.client.post("/v1/conversations.jsonl", content=line.replace("x", "y"), headers=jsonl)
    refused = strict.client.post("/v1/chat/completions", json=turn, headers=own)
    for answer in (more, refused):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "storage_quota_exceeded"), answer.text
        assert "400000" in answer.json()["error"]["message"]
    assert strict.client.get("/v1/conversations/more", headers=own).status_code == 404
    strict.client.delete("/v1/conversations", headers=own)
    assert strict.client.post("/v1/conversations.jsonl", content=line, headers=jsonl).json()["imported"] == 1


def connect(server, data: bytes) -> socket.socket:
    """A connection on which this much of a request was sent."""
    host, port = server.base.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.sendall(data)
    return connection


def rest(connection: socket.socket) -> bytes:
    """What the server still sends until it hangs up."""
    received = b""
    with connection:
        while data := connection.recv(65536):
            received += data
    return received


HALF_A_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


def test_half_requests_hold_nobody_up_and_are_given_up_after_a_while(strict):
    heads = [connect(strict, HALF_A_HEAD) for _ in range(50)]
    known = HALF_A_HEAD + f"Authorization: {key(7)['Authorization']}\r\n\r\n".encode()
    bodies = [connect(strict, known + begun) for begun in (b"{", b"") for _ in range(25)]
    stranger = connect(strict, HALF_A_HEAD + b"\r\n{")
    assert stranger.recv(65536).startswith(b"HTTP/1.1 401")  # at once; nothing of its body is waited for
    silent = connect(strict, b"")
    assert strict.client.get("/health").status_code == 200
    assert strict.client.post("/v1/chat/completions", json=SHORT, headers=key(7)).status_code == 200
    assert strict.metric("resonance_queued_requests", key(7)) == 0
    assert all(rest(connection) == b"" for connection in (*heads, silent))
    assert b"body_timeout" not in rest(stranger)
    for connection in bodies:
        answer = rest(connection)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"body_timeout" in answer


def test_a_head_that_comes_a_byte_at_a_time_is_given_up_as_well(strict):
    first = connect(strict, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in first.recv(65536)
    with pytest.raises(OSError), first:  # a reset or a broken pipe, as it happens
        for byte in HALF_A_HEAD * 20:
            first.sendall(bytes([byte]))
            time.sleep(0.02)


def test_heads_without_end_are_refused(strict):
    response = strict.client.get("/health", headers={"X-Long": "a" * 200_000})
    assert (response.status_code, response.json()["error"]["code"]) == (431, "head_too_large")
    many = strict.client.get("/health", headers={f"X-{i}": "a" * 100 for i in range(1000)})
    assert many.status_code == 431
    endless = connect(strict, b"GET /health HTTP/1.1\r\nX-Long: ")
    with contextlib.suppress(OSError):
        for _ in range(1000):
            endless.sendall(b"a" * 1000)
    assert strict.client.get("/health", headers={"X-Long": "a" * 20_000}).status_code == 200


def test_pages_of_the_origins_that_were_named_may_call_and_no_others(strict):
    wanted = "authorization,content-type,x-stainless-os"  # as OpenAI's client for browsers asks
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}
    named = asks | {"Origin": "https://chat.example.org"}
    allowed = strict.client.options("/v1/chat/completions", headers=named)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, named["Origin"])
    assert "x-stainless-os" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    models = strict.client.get("/v1/models", headers=named | key(7))
    assert (models.status_code, models.headers["access-control-allow-origin"]) == (200, named["Origin"])
    refused = (
        (403, "origin_not_allowed", asks | {"Origin": "https://evil.example"}),
        (400, "method_not_allowed", named | {"Access-Control-Request-Method": "TRACE"}),
    )
    for status, code, headers in refused:
        answer = strict.client.options("/v1/chat/completions", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["x-request-id"]


def test_refusals_that_come_before_the_app_can_be_read_by_pages_of_other_origins_too(strict):
    headers = key(7) | {"Origin": "https://chat.example.org", "Content-Type": "application/json"}
    too_large = strict.client.post("/v1/chat/completions", content=b"x" * 1_100_000, headers=headers)
    assert too_large.status_code == 413
    assert too_large.headers["access-control-allow-origin"] == headers["Origin"]
    assert "Retry-After" in too_large.headers["access-control-expose-headers"]


def test_a_server_with_keys_works_behind_a_proxy_under_any_name(strict):
    for proxied in (
        {"Host": "chat.example.com", "Origin": "https://chat.example.com", "X-Forwarded-Proto": "https"},
        {"Host": "backend:8000", "Origin": "https://chat.example.com", "Sec-Fetch-Site": "same-origin"},
        {"Host": "backend:8000"},
    ):
        answer = strict.client.post("/v1/chat/completions", json=SHORT, headers=key(10) | proxied)
        assert answer.status_code == 200, answer.text
        assert strict.client.get("/", headers=proxied).status_code == 200
    foreign = key(10) | {"Host": "chat.example.com", "Origin": "https://evil.example"}
    refused = strict.client.post("/v1/chat/completions", json=SHORT, headers=foreign)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")


def test_what_is_no_http_is_refused_in_the_same_form(strict):
    answer = rest(connect(strict, b"\x16\x03\x01 hello\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"


def test_an_answer_that_takes_too_long_is_ended_by_504_or_a_last_event(strict):
    ended: list[httpx.Response] = []

    def whole() -> None:
        ended.append(strict.client.post("/v1/chat/completions", json=LONG, headers=key(2)))

    other = threading.Thread(target=whole)
    other.start()
    with strict.client.stream("POST", "/v1/chat/stream", json=LONG, headers=key(8)) as response:
        lines = [line for line in response.iter_lines() if line]
    other.join()
    assert (ended[0].status_code, ended[0].json()["error"]["code"]) == (504, "timeout")
    assert lines[-1] == "data: [DONE]"
    lines = [line for line in lines if not line.startswith("id: ")]
    assert lines[-3] == "event: error"
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["code"] == "timeout"


def test_a_key_has_so_many_answers_at_a_time(strict):
    with (
        strict.client.stream("POST", "/v1/chat/stream", json=LONG, headers=key(3)) as one,
        strict.client.stream("POST", "/v1/chat/stream", json=LONG, headers=key(3)) as two,
    ):
        assert one.status_code == two.status_code == 200
        third = strict.client.post("/v1/chat/completions", json=SHORT, headers=key(3))
        assert (third.status_code, third.json()["error"]["code"]) == (429, "too_many_streams")
