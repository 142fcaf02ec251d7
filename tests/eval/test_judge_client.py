"""The judge's client against a real server, and what it does when that fails."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from eval.judge.client import JudgeClient, JudgeUnavailable
from eval.judge.endpoint import Endpoint
from resonance.retrieval.cache import Cache

from ..fake_judge import FakeJudge, completion, fake_judge

KEY = "sk-secret-0123456789"


@pytest.fixture
def judge() -> Iterator[FakeJudge]:
    with fake_judge() as judge:
        judge.rule = lambda prompt: f"re: {prompt}"
        yield judge


def client(url: str, path: Path, *, api_key: str | None = None, **settings: Any) -> JudgeClient:
    quick: dict[str, Any] = {"backoff": 0.01, "attempts": 3, "timeout": 5.0}
    return JudgeClient(
        Endpoint(url=url, model="rule", **(quick | settings)), Cache(path / "judge.sqlite", entries=1000), api_key
    )


def test_replies_come_in_the_prompts_order_with_what_the_endpoint_says_it_is(judge: FakeJudge, tmp_path: Path) -> None:
    replies = client(judge.url, tmp_path).ask(["one", "two", "one"])
    assert [reply.text for reply in replies] == ["re: one", "re: two", "re: one"]
    assert {reply.model for reply in replies} == {"rule-1-2026"}
    assert (replies[0].prompt_tokens, replies[0].completion_tokens, replies[0].finish_reason) == (100, 2, "stop")
    assert len(judge.requests) == 2  # equal prompts are one request


def test_a_request_fixes_seed_and_temperature_and_takes_further_fields(judge: FakeJudge, tmp_path: Path) -> None:
    client(judge.url, tmp_path, seed=7, extra={"max_tokens": None, "max_completion_tokens": 9}).ask(["one"])
    assert judge.requests == [
        {
            "model": "rule",
            "messages": [{"role": "user", "content": "one"}],
            "temperature": 0.0,
            "seed": 7,
            "max_completion_tokens": 9,
        }
    ]


def test_a_second_run_asks_nothing(judge: FakeJudge, tmp_path: Path) -> None:
    first = client(judge.url, tmp_path).ask(["one", "two"])
    judge.dies_after = 0
    assert client(judge.url, tmp_path).ask(["one", "two"]) == first
    assert len(judge.requests) == 2


@pytest.mark.parametrize("change", [{"seed": 1}, {"max_tokens": 5}, {"temperature": 0.5}, {"extra": {"top_p": 0.5}}])
def test_other_parameters_are_asked_anew(judge: FakeJudge, tmp_path: Path, change: dict[str, Any]) -> None:
    client(judge.url, tmp_path).ask(["one"])
    client(judge.url, tmp_path, **change).ask(["one"])
    assert len(judge.requests) == 2


def test_no_more_requests_are_in_flight_than_allowed(judge: FakeJudge, tmp_path: Path) -> None:
    judge.delay = 0.03
    client(judge.url, tmp_path, concurrency=3).ask([str(i) for i in range(12)])
    assert judge.most_in_flight == 3


def test_the_key_goes_into_the_header_and_nowhere_else(judge: FakeJudge, tmp_path: Path) -> None:
    client(judge.url, tmp_path, api_key=KEY).ask(["one"])
    assert judge.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())
    judge.faults = [(401, {}, json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}\x1b[2J"}}))]
    with pytest.raises(JudgeUnavailable) as caught:
        client(judge.url, tmp_path, api_key=KEY).ask(["two"])
    assert KEY not in str(caught.value)
    assert "HTTP 401, Incorrect API key provided: [API key]" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_without_a_key_no_authorization_is_sent(judge: FakeJudge, tmp_path: Path) -> None:
    client(judge.url, tmp_path).ask(["one"])
    assert "Authorization" not in judge.headers[0]


@pytest.mark.parametrize(
    "fault",
    [
        (429, {}, "slow down"),
        (500, {}, '{"error": {"message": "boom"}}'),
        (503, {}, '{"error": {"message": "Loading model"}}'),
        (200, {}, "<html>garbage</html>"),
        (200, {}, '{"choices": []}'),
        (200, {}, '{"choices": [{"message": {"content": 5}}]}'),
        (200, {}, "[" * 100_000),
    ],
)
def test_what_may_pass_is_tried_again(judge: FakeJudge, tmp_path: Path, fault: tuple[int, dict[str, str], str]) -> None:
    judge.faults = [fault, fault]
    (reply,) = client(judge.url, tmp_path).ask(["one"])
    assert reply.text == "re: one"
    assert len(judge.requests) == 3


def test_what_does_not_pass_is_given_up_with_its_reason(judge: FakeJudge, tmp_path: Path) -> None:
    judge.faults = [(500, {}, '{"error": {"message": "boom"}}')] * 3
    with pytest.raises(JudgeUnavailable, match=r"did not answer in 3 attempts: HTTP 500, boom; start it or correct"):
        client(judge.url, tmp_path).ask(["one"])
    assert len(judge.requests) == 3


@pytest.mark.parametrize("date", [False, True])
def test_the_time_to_wait_is_the_servers(judge: FakeJudge, tmp_path: Path, date: bool) -> None:
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if date else "1"
    judge.faults = [(429, {"Retry-After": value}, "")]
    client(judge.url, tmp_path).ask(["one"])
    assert judge.times[1] - judge.times[0] >= 0.9


def test_nobody_waits_for_an_hour(judge: FakeJudge, tmp_path: Path) -> None:
    judge.faults = [(429, {"Retry-After": "3600"}, "quota used up")]
    with pytest.raises(
        JudgeUnavailable, match=r"asks to wait 3600 s, longer than task.judge.max_wait .* quota used up"
    ):
        client(judge.url, tmp_path).ask(["one"])
    assert len(judge.requests) == 1


def test_a_server_that_hangs_is_given_up(judge: FakeJudge, tmp_path: Path) -> None:
    judge.delay = 1.0
    started = time.monotonic()
    with pytest.raises(JudgeUnavailable, match=r"no reply within 0.1 s"):
        client(judge.url, tmp_path, timeout=0.1, attempts=2).ask(["one", "two"])
    assert time.monotonic() - started < 3


def test_a_server_that_drips_is_given_up_too(tmp_path: Path) -> None:
    def drip() -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(100):
                connection.sendall(b" ")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip)
        thread.start()
        started = time.monotonic()
        with pytest.raises(JudgeUnavailable, match=r"one attempt: no reply within 0.2 s"):
            client(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", tmp_path, timeout=0.2, attempts=1).ask(["one"])
        assert time.monotonic() - started < 3
        thread.join()


def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(JudgeUnavailable, match=rf"http://127.0.0.1:{port}/v1 did not answer in 3 attempts"):
        client(f"http://127.0.0.1:{port}/v1", tmp_path).ask(["one"])


def test_replies_before_the_server_died_are_kept(judge: FakeJudge, tmp_path: Path) -> None:
    prompts = [str(i) for i in range(8)]
    judge.dies_after = 5
    with pytest.raises(JudgeUnavailable, match="replies so far are kept"):
        client(judge.url, tmp_path, concurrency=1).ask(prompts)
    judge.dies_after = None
    asked = len(judge.requests)
    assert [reply.text for reply in client(judge.url, tmp_path).ask(prompts)] == [f"re: {i}" for i in prompts]
    assert len(judge.requests) - asked == 3


def test_once_one_request_has_failed_no_other_starts(judge: FakeJudge, tmp_path: Path) -> None:
    judge.dies_after = 0
    with pytest.raises(JudgeUnavailable, match="did not answer in 2 attempts"):
        client(judge.url, tmp_path, attempts=2, concurrency=2).ask([str(i) for i in range(50)])
    assert len(judge.requests) <= 4


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_concerns_one_prompt_and_is_not_kept(judge: FakeJudge, tmp_path: Path, status: int) -> None:
    judge.faults = [(status, {}, '{"error": {"message": "the prompt is too long"}}')]
    replies = client(judge.url, tmp_path, concurrency=1).ask(["one", "two"])
    assert replies[0].refusal == f"HTTP {status}, the prompt is too long"
    assert replies[1].text == "re: two"
    assert client(judge.url, tmp_path).ask(["one"])[0].text == "re: one"


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_an_endpoint_that_refuses_everybody_is_asked_once(judge: FakeJudge, tmp_path: Path, status: int) -> None:
    judge.faults = [(status, {}, "")]
    with pytest.raises(JudgeUnavailable, match=f"refuses the request: HTTP {status}"):
        client(judge.url, tmp_path).ask(["one"])
    assert len(judge.requests) == 1


@pytest.mark.parametrize(
    ("content", "text"), [(None, ""), ([{"type": "text", "text": "8"}, {"type": "text", "text": "5"}], "85")]
)
def test_content_may_be_nothing_or_parts(judge: FakeJudge, tmp_path: Path, content: object, text: str) -> None:
    judge.faults = [(200, {}, json.dumps(completion(content)))]
    assert client(judge.url, tmp_path).ask(["one"])[0].text == text
