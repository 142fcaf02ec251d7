"""Clients that do not read hold their own answers up, and neither the memory nor other people's answers."""

import http.client
import json
import socket
import time
from pathlib import Path

import pytest

LONG = {
    "messages": [{"role": "user", "content": "Talk"}],
    "max_tokens": 8000,
    "n": 16,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 5,
    "stream": True,
}
SHORT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
SLOW_READERS = 42


@pytest.fixture(scope="module")
def patient(launch):
    """Places for many slow readers, and little time to be slow in."""
    return launch(
        "checkpoint=tiny",
        "max_batch_size=16",
        f"max_queue={SLOW_READERS}",
        "limits.write_s=4",
        "limits.answer_bytes=65536",
        "limits.exports=2",
    )


def ask(server, body: dict | None, path: str = "/v1/chat/completions") -> socket.socket:
    """A connection on which a request was sent, with a small buffer of its own; without a body it is a GET."""
    host, port = server.base.removeprefix("http://").split(":")
    data = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    length = f"Content-Length: {len(data)}\r\n\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    connection.settimeout(60)
    connection.connect((host, int(port)))
    connection.sendall((head + length).encode() + data)
    return connection


def rest(connection: socket.socket) -> bytes:
    """What a connection still brings."""
    received = b""
    with connection:
        while True:
            try:
                data = connection.recv(65536)
            except ConnectionResetError:
                return received
            if not data:
                return received
            received += data


def resident(server) -> float:
    """Memory of all the server's processes for themselves, in MB."""
    total = 0
    for pid in [server.process.pid, *server.children()]:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    return total / 1024


def held(server) -> float:
    """How many places are taken."""
    names = ("active_requests", "queued_requests", "undelivered_answers")
    return sum(server.metric(f"resonance_{name}") for name in names)


def test_the_answer_of_a_reader_that_does_not_read_pauses_and_is_then_given_up(patient):
    slow = ask(patient, LONG)
    assert patient.until(lambda: patient.metric("resonance_generated_tokens_total") > 200)
    assert patient.until(lambda: patient.metric("resonance_batch_size") == 0, 20)
    made = patient.metric("resonance_generated_tokens_total")
    assert held(patient) == 1
    assert patient.client.post("/v1/chat/completions", json=SHORT).status_code == 200  # it needs one of the slots
    assert patient.metric("resonance_generated_tokens_total") - made <= 2
    assert patient.until(lambda: held(patient) == 0, 20)
    assert b"[DONE]" not in rest(slow)


def test_a_whole_answer_holds_its_place_until_it_is_read_or_given_up(patient):
    body = LONG | {"stream": False, "max_tokens": 40}
    unread = ask(patient, body)
    assert patient.until(lambda: patient.metric("resonance_undelivered_answers") == 1)
    assert held(patient) == 1
    assert patient.until(lambda: held(patient) == 0, 30)
    with ask(patient, body) as read:
        response = http.client.HTTPResponse(read)
        response.begin()
        answer = response.read()
    assert len(json.loads(answer)["choices"]) == 16
    assert patient.until(lambda: held(patient) == 0, 2)
    assert len(rest(unread)) < len(answer)


def test_an_answer_that_could_take_more_than_there_is_for_all_is_refused_with_what_to_do(patient):
    body = LONG | {"stream": False, "top_logprobs": 20}
    refused = patient.client.post("/v1/chat/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "answer_too_large")
    assert "stream: true" in refused.json()["error"]["message"]


def test_an_export_that_nobody_reads_holds_one_of_few_places_until_it_is_given_up(patient):
    lines = [
        json.dumps(
            {"messages": [{"role": "user", "content": f"{i} " + "x" * 60_000}, {"role": "assistant", "content": "y"}]}
        )
        for i in range(15)
    ]
    headers = {"Content-Type": "application/x-ndjson"}
    imported = patient.client.post("/v1/conversations.jsonl", content="\n".join(lines), headers=headers)
    assert imported.json()["imported"] == 15
    unread = [ask(patient, None, "/v1/conversations.jsonl") for _ in range(2)]
    for connection in unread:
        connection.recv(1, socket.MSG_PEEK)  # its export has begun

    def refused() -> bool:
        with patient.client.stream("GET", "/v1/conversations.jsonl") as answer:
            return answer.status_code == 429 and json.loads(answer.read())["error"]["code"] == "too_many_exports"

    assert patient.until(refused, 10)
    assert patient.until(lambda: not refused(), 20)
    time.sleep(1)  # the other export began a moment later
    assert len(patient.client.get("/v1/conversations.jsonl").text.splitlines()) == 15
    assert all(len(rest(connection)) < 900_000 for connection in unread)


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.timeout(400)
def test_many_slow_readers_take_no_memory_and_others_are_answered_meanwhile(patient):
    patient.client.post("/v1/chat/completions", json=SHORT)
    began = time.monotonic()
    memory = [resident(patient)]
    slow = [ask(patient, LONG) for _ in range(SLOW_READERS)]
    assert patient.until(lambda: patient.metric("resonance_active_requests") > 3)
    waits: list[float] = []

    def are_given_up() -> bool:
        memory.append(resident(patient))
        asked = time.monotonic()
        assert patient.client.post("/v1/chat/completions", json=SHORT).status_code == 200
        waits.append(time.monotonic() - asked)
        time.sleep(0.3)
        return held(patient) == 0

    assert patient.until(are_given_up, 300)
    print(
        f"{SLOW_READERS} slow readers: {memory[0]:.0f} MB, at most {max(memory):.0f}; others waited {max(waits):.1f} s"
    )
    print(f"after {time.monotonic() - began:.0f} s all were given up")
    assert max(memory) - memory[0] < 150
    for connection in slow:
        assert b"[DONE]" not in rest(connection)


def test_a_reader_that_pauses_gets_the_same_answer_as_one_that_does_not(patient):
    body = LONG | {"max_tokens": 100, "seed": 1}
    quick = rest_of_one(ask(patient, body))
    connection = ask(patient, body)
    assert patient.until(lambda: patient.metric("resonance_batch_size") == 0)
    time.sleep(0.5)
    assert patient.metric("resonance_active_requests") == 1  # it waits for its reader
    assert rest_of_one(connection) == quick
    assert len(quick) == 16 * (100 + 1 + 1) + 1  # tokens, beginnings and ends, and the end of all


def rest_of_one(connection: socket.socket) -> list[object]:
    """The deltas of one stream, read to its end."""
    received = b""
    with connection:
        while b"data: [DONE]" not in received:
            received += connection.recv(65536)
    lines = [line[6:] for line in received.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line)["choices"] if line.startswith(b"{") else line for line in lines]
