"""Scoring over HTTP is work like any other: beside it others are answered, and it ends when nobody waits for it."""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import httpx
import pytest

HANG_S = 3.0
TIMEOUT_S = 30.0
HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"messages": HELLO, "max_tokens": 1}
SOON = 2.0  # seconds: many steps, and far less than what the big requests take


@pytest.fixture(scope="module")
def server(launch):
    """Its worker is ended when it shows no sign of life for a while: nothing may compute as long as that."""
    return launch("checkpoint=tiny", "max_batch_size=4", "max_queue=48", f"hang_s={HANG_S}", f"timeout_s={TIMEOUT_S}")


def scoring(prompts: int, tokens: int, **more: Any) -> dict[str, Any]:
    """A request that wants nothing but the log-probabilities of random prompts."""
    chance = random.Random(prompts * tokens)
    ids = [[chance.randrange(100) for _ in range(tokens)] for _ in range(prompts)]
    return {"prompt": ids, "max_tokens": 0, "echo": True, "logprobs": 0} | more


BIG = scoring(64, 4000)  # takes far longer than TIMEOUT_S


@contextmanager
def under_way(server, body: dict[str, Any]) -> Iterator[Callable[[], None]]:
    """A raw completion that a worker has taken; what is given hangs up."""
    taken = server.metric("resonance_active_requests")
    connection = http.client.HTTPConnection(server.base.removeprefix("http://"), timeout=100)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/completions", body=json.dumps(body), headers=headers)
    assert server.until(lambda: server.metric("resonance_active_requests") > taken)
    try:
        yield connection.close
    finally:
        connection.close()
        assert server.until(lambda: server.metric("resonance_active_requests") == taken)


@contextmanager
def health_is_watched(server) -> Iterator[list[float]]:
    """Asks for /health again and again; the seconds that each answer took. All must be ok."""
    seconds: list[float] = []
    states: set[int] = set()
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.base, timeout=60) as client:
            while not over.wait(0.01):
                began = time.monotonic()
                states.add(client.get("/health").status_code)
                seconds.append(time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seconds
    finally:
        over.set()
        asking.join()
    assert states == {200}


def test_a_stream_goes_on_beside_a_big_scoring_which_stops_when_its_client_leaves(server):
    body = {"messages": HELLO, "max_tokens": 150, "logit_bias": {"50256": -100}}
    times: list[float] = []
    with under_way(server, BIG) as hang_up, health_is_watched(server) as seconds:
        with server.client.stream("POST", "/v1/chat/stream", json=body) as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    times.append(time.monotonic())
        assert server.metric("resonance_active_requests") == 1  # the scoring goes on
        hang_up()
        assert server.until(lambda: server.metric("resonance_active_requests") == 0, SOON)
        began = time.monotonic()
        assert server.client.post("/v1/chat/completions", json=CHAT).status_code == 200
        assert time.monotonic() - began < SOON
    assert len(times) > 150
    assert max(later - earlier for earlier, later in pairwise(times)) < HANG_S
    assert max(seconds) < SOON / 2
    assert server.metric("resonance_worker_restarts_total") == 0


@pytest.mark.slow
def test_a_scoring_ends_when_its_time_is_over(server):
    began = time.monotonic()
    answer = server.client.post("/v1/completions", json=BIG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
    assert time.monotonic() - began < TIMEOUT_S + SOON
    assert server.metric("resonance_active_requests") == 0


def test_many_small_scorings_in_a_row_do_not_silence_the_worker(server):
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{server.base}/v1/completions", json=scoring(1, 250), timeout=60))

    asking = [threading.Thread(target=ask) for _ in range(45)]
    with health_is_watched(server):
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    assert {answer.status_code for answer in answers} == {200}
    assert server.metric("resonance_worker_restarts_total") == 0


def test_a_request_of_many_prompts_leaves_others_their_place_and_is_answered_in_order(server):
    many = {"prompt": [[number] for number in range(100, 124)], "max_tokens": 60, "temperature": 0, "logprobs": 0}
    many |= {"echo": True, "logit_bias": {"50256": -100}}
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{server.base}/v1/completions", json=many, timeout=60))

    asking = threading.Thread(target=ask)
    asking.start()
    assert server.until(lambda: server.metric("resonance_active_requests") == 1)
    for _ in range(3):
        assert server.client.post("/v1/chat/completions", json=CHAT | {"max_tokens": 5}).status_code == 200
    assert not answers  # others did not wait for all of its prompts
    asking.join()
    choices = answers[0].json()["choices"]
    alone = server.client.post("/v1/completions", json=many | {"prompt": [100, 101]}).json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(24))
    assert [len(choice["logprobs"]["tokens"]) for choice in choices] == [61] * 24
    assert choices[0]["text"] != choices[1]["text"]
    assert len(alone) == 1
    second = server.client.post("/v1/completions", json=many | {"prompt": [101]}).json()["choices"][0]
    assert second["text"] == choices[1]["text"]
    assert second["logprobs"]["token_logprobs"] == pytest.approx(choices[1]["logprobs"]["token_logprobs"], abs=1e-4)


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_for_many_answers_does_not_hold_the_event_loop_up(server, stream: bool):
    body = scoring(8, 300, n=8, max_tokens=1, temperature=0, logprobs=3, stream=stream)
    with health_is_watched(server) as seconds:
        answer = server.client.post("/v1/completions", json=body)
    assert answer.status_code == 200
    assert max(seconds) < SOON / 2
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        assert len({event["id"] for event in events}) == 1
        parts = [choice for event in events for choice in event["choices"]]
        choices = [_put_together([part for part in parts if part["index"] == index]) for index in range(64)]
    else:
        choices = answer.json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(64))
    for first in range(0, 64, 8):
        logprobs = choices[first]["logprobs"]
        assert [len(column) for column in logprobs.values()] == [301] * 4
        assert "".join(logprobs["tokens"]) == choices[first]["text"]
        assert logprobs["text_offset"][-1] == len("".join(logprobs["tokens"][:-1]))
        assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
        assert all(1 <= len(best) <= 3 for best in logprobs["top_logprobs"][1:])  # some look alike
        assert all(choice["logprobs"] == logprobs for choice in choices[first : first + 8])


def _put_together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    names = parts[0]["logprobs"]
    return {
        "index": parts[0]["index"],
        "text": "".join(part["text"] for part in parts),
        "logprobs": {name: [value for part in parts for value in part["logprobs"][name]] for name in names},
    }


def test_more_log_probabilities_than_the_server_writes_are_refused_with_the_bound(server):
    refused = server.client.post("/v1/completions", json=scoring(8, 500, n=16, max_tokens=1, logprobs=5))
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("too_many_logprobs", "logprobs")
    assert "384000" in error["message"]
    assert "262144" in error["message"]
