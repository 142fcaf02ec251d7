"""Many more requests than the server has places for, with real sockets."""

import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

REQUESTS = 500
ROUNDS = 5
HEALTH_SECONDS = 0.1
BODY = {
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 16,
    "temperature": 0,
    "logit_bias": {"50256": -100},
}
# A process of its own with one bare connection, so that it waits for the server alone.
POLL = """
import signal, socket, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=60)
print("ready", flush=True)
while True:
    began = time.monotonic()
    connection.sendall(b"GET /health HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    answer = connection.recv(65536)
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    print(answer[9:12].decode(), time.monotonic() - began, flush=True)
    time.sleep(0.005)
"""


def flood(port: int) -> list[tuple[int, dict]]:
    """All answers to requests that are sent at once, each on a connection that stands before."""
    body = json.dumps(BODY).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    waiting = selectors.DefaultSelector()
    received: dict[socket.socket, bytes] = {}
    for _ in range(REQUESTS):
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        waiting.register(connection, selectors.EVENT_READ)
        received[connection] = b""
    time.sleep(1.0)
    for connection in received:
        connection.sendall(head.encode() + body)
    while waiting.get_map():
        for key, _ in waiting.select():
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            data = connection.recv(65536)
            received[connection] += data
            if not data:
                waiting.unregister(connection)
                connection.close()
    return [parse(answer) for answer in received.values()]


def parse(answer: bytes) -> tuple[int, dict]:
    """A response's status and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status != 429 or b"retry-after:" in head.lower()
    return status, json.loads(body)


class Health:
    """How long /health took, asked for from another process while the block lasts."""

    def __init__(self, port: int) -> None:
        self.seconds: list[float] = []
        self._port = port

    def __enter__(self) -> "Health":
        command = [sys.executable, "-c", POLL, str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        lines, _ = self._process.communicate()
        answers = [line.split() for line in lines.splitlines() if line.count(" ") == 1]
        assert {status for status, _ in answers} == {"200"}
        self.seconds = sorted(float(seconds) for _, seconds in answers)

    def __str__(self) -> str:
        median, most, worst = (1e3 * self.at(share) for share in (0.5, 0.99, 1.0))
        return f"median {median:.1f} ms, 99% {most:.1f} ms, at most {worst:.1f} ms"

    def at(self, share: float) -> float:
        """The time that this share of the answers did not exceed."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def resident(pids: list[int]) -> int:
    """Memory that the processes have for themselves, in bytes."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))
    return total * 1024


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.timeout(900)
def test_500_requests_at_once_are_answered_right_or_refused_while_health_is_quick_and_memory_stays(launch):
    server = launch("checkpoint=tiny", "max_batch_size=8", "max_queue=32")
    port = int(server.base.rpartition(":")[2])
    expected = server.client.post("/v1/chat/completions", json=BODY).json()["choices"][0]["message"]["content"]
    with Health(port) as idle:
        time.sleep(2)
    processes = [server.process.pid, *server.children()]
    memory: list[int] = []
    health: list[Health] = []
    for _ in range(ROUNDS):
        with Health(port) as busy:
            answers = flood(port)
        outcomes = Counter(status for status, _ in answers)
        assert sum(outcomes.values()) == REQUESTS
        assert set(outcomes) == {200, 429}
        assert outcomes[200] >= 40
        right = {body["choices"][0]["message"]["content"] for status, body in answers if status == 200}
        assert right == {expected}
        assert server.until(lambda: server.metric("resonance_active_requests") == 0)
        memory.append(resident(processes))
        health.append(busy)
    print(f"/health, idle: {idle}; under load: {'; '.join(map(str, health))}")
    print(f"answered {dict(outcomes)}; memory {[round(size / 1e6) for size in memory]} MB")
    assert statistics.median(busy.at(1.0) for busy in health) < HEALTH_SECONDS
    assert memory[-1] - memory[0] < 32e6  # the first round makes the connections' and queues' room
