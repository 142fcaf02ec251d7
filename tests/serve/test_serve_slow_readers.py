"""Clients that do not read hold their own answers up, and neither the memory nor other people's answers."""

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
    """Places for all slow readers of a test and some more, and little time to be slow in."""
    return launch(
        "checkpoint=tiny",
        "max_batch_size=16",
        f"max_queue={SLOW_READERS}",
        "resume_s=2",
        "limits.write_s=6",
        "limits.answer_bytes=262144",
    )


def ask(server, body: dict, path: str = "/v1/chat/completions") -> socket.socket:
    """A connection on which a request was sent, with a small buffer of its own."""
    host, port = server.base.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    connection.settimeout(60)
    connection.connect((host, int(port)))
    connection.sendall(head.encode() + data)
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


def test_slow_readers_take_no_memory_and_others_are_answered_until_they_are_given_up(patient):
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
        return patient.metric("resonance_active_requests") + patient.metric("resonance_queued_requests") == 0

    assert patient.until(are_given_up, 90)
    print(
        f"{SLOW_READERS} slow readers: {memory[0]:.0f} MB, at most {max(memory):.0f}; others waited {max(waits):.1f} s"
    )
    print(f"after {time.monotonic() - began:.0f} s all were given up")
    assert max(memory) - memory[0] < 150
    for connection in slow:
        assert b"[DONE]" not in rest(connection)


def test_a_reader_that_pauses_gets_the_same_answer_as_one_that_does_not(patient):
    body = LONG | {"max_tokens": 300, "n": 4, "temperature": 0, "top_logprobs": 2}
    quick = rest_of_one(ask(patient, body))
    connection = ask(patient, body)
    time.sleep(2.0)
    assert rest_of_one(connection) == quick
    assert len(quick) == 4 * 300 + 4 + 4 + 1  # tokens, beginnings, ends, the end of all


def rest_of_one(connection: socket.socket) -> list[object]:
    """The deltas of one stream, read to its end."""
    received = b""
    with connection:
        while b"data: [DONE]" not in received:
            received += connection.recv(65536)
    lines = [line[6:] for line in received.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line)["choices"] if line.startswith(b"{") else line for line in lines]
