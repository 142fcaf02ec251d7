"""What clients may make the server hold before it knows them: nothing of their bodies, and few connections."""

import contextlib
import json
import socket
import time
from pathlib import Path

import pytest

KEY = {"Authorization": "Bearer secret"}
CONNECTIONS = 320
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
SHORT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def guarded(launch):
    """A server with a key, which soon gives up who is slow."""
    return launch(
        "checkpoint=tiny",
        "max_batch_size=4",
        "limits.receive_s=5",
        "limits.bodies_bytes=2000000",
        "limits.connections=400",
        f"limits.connections_per_address={CONNECTIONS}",
        RESONANCE_API_KEYS="secret",
    )


def connect(server) -> socket.socket:
    host, port = server.base.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def begin_body(server, headers: dict[str, str], size: int) -> socket.socket:
    """A connection on which all but the last byte of a body of this size was sent."""
    connection = connect(server)
    head = HEAD + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
    with contextlib.suppress(ConnectionError):  # refused meanwhile
        connection.sendall(b" " * (size - 1))
    return connection


def answer_of(connection: socket.socket) -> tuple[int, str, bytes]:
    """The status, the error's code and the head of the answer that a connection brings."""
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"}"):
        data = connection.recv(65536)
        if not data:
            break
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"], head.lower()


def resident(server) -> float:
    """Memory of the HTTP process and its parent for themselves, in MB."""
    total = 0
    for pid in [server.process.pid, *server.children()]:
        if pid != server.worker():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    return total / 1024


def test_a_body_without_a_key_is_refused_before_it_is_here_and_kept_by_nobody(guarded):
    before = resident(guarded)
    began = time.monotonic()
    strangers = [begin_body(guarded, {}, 1_000_000) for _ in range(300)]
    for connection in strangers:
        status, code, head = answer_of(connection)
        assert (status, code) == (401, "missing_api_key")
        assert b"www-authenticate: bearer" in head
    took = time.monotonic() - began
    grown = resident(guarded) - before
    print(f"300 bodies without a key: {before:.0f} -> {before + grown:.0f} MB, refused in {took:.1f} s")
    assert grown < 40
    wrong = begin_body(guarded, {"Authorization": "Bearer wrong"}, 10)
    assert answer_of(wrong)[:2] == (401, "invalid_api_key")
    for connection in strangers:
        with connection, contextlib.suppress(ConnectionResetError):
            connection.settimeout(20)
            assert connection.recv(1) == b""  # what is still to come of the body is waited for no longer


def test_what_all_bodies_hold_is_bounded_and_small_ones_come_in_still(guarded):
    large = [begin_body(guarded, KEY, 900_000) for _ in range(4)]
    refused = [connection for connection in large if guarded.until(lambda c=connection: readable(c), 1.5)]
    assert len(refused) == 2
    for connection in refused:
        status, code, head = answer_of(connection)
        assert (status, code) == (503, "too_much_received")
        assert b"retry-after: 1" in head
    assert guarded.client.post("/v1/chat/completions", json=SHORT, headers=KEY).status_code == 200
    for connection in large:
        if connection not in refused:
            connection.sendall(b" ")
            assert answer_of(connection)[:2] == (400, "invalid_json")
    json_type = {**KEY, "Content-Type": "application/json"}
    assert guarded.client.post("/v1/chat/completions", content=b" " * 900_000, headers=json_type).status_code == 400


def readable(connection: socket.socket) -> bool:
    """Whether something has come."""
    connection.setblocking(False)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(60)


def test_one_address_has_so_many_connections_and_gets_an_error_for_more(guarded):
    guarded.client.close()
    guarded.__post_init__()
    assert guarded.until(lambda: guarded.client.get("/health").status_code == 200)
    idle = [connect(guarded) for _ in range(CONNECTIONS - 1)]
    one_more = connect(guarded)
    status, code, head = answer_of(one_more)
    assert (status, code) == (503, "too_many_connections")
    assert b"retry-after: 1" in head
    assert guarded.client.get("/health").status_code == 200
    for connection in (*idle, one_more):
        connection.close()
    assert guarded.until(lambda: answers(guarded), 10)


def answers(server) -> bool:
    """Whether a new connection is answered."""
    with connect(server) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return connection.recv(64).startswith(b"HTTP/1.1 200")
