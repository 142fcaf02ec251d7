"""Many more requests than the server has places for, with real sockets."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

REQUESTS = 500
ROUNDS = 3
BODY = {
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 16,
    "temperature": 0,
    "logit_bias": {"50256": -100},
}
# A process of its own, so that it does not wait for the clients that the test plays.
POLL = """
import http.client, sys, time
connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
print("ready", flush=True)
while True:
    began = time.monotonic()
    connection.request("GET", "/health")
    response = connection.getresponse()
    response.read()
    print(response.status, time.monotonic() - began, flush=True)
    time.sleep(0.01)
"""


async def ask(host: str, port: int, go: asyncio.Event) -> tuple[int, dict]:
    """One request on a connection of its own; the connection stands before any request is sent."""
    reader, writer = await asyncio.open_connection(host, port)
    await go.wait()
    data = json.dumps(BODY).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + data)
    whole = await reader.read()
    writer.close()
    header, _, body = whole.partition(b"\r\n\r\n")
    status = int(header.split()[1])
    assert status != 429 or b"retry-after:" in header.lower()
    return status, json.loads(body)


async def flood(host: str, port: int) -> list[tuple[int, dict]]:
    go = asyncio.Event()
    tasks = [asyncio.create_task(ask(host, port, go)) for _ in range(REQUESTS)]
    await asyncio.sleep(1.0)  # all connections stand
    go.set()
    return await asyncio.gather(*tasks)


class Health:
    """How long /health took, asked for from another process while the block lasts."""

    def __init__(self, address: str) -> None:
        self.seconds: list[float] = []
        self._address = address

    def __enter__(self) -> "Health":
        command = [sys.executable, "-c", POLL, self._address]
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
@pytest.mark.timeout(900)
def test_500_requests_at_once_are_answered_right_or_refused_and_memory_stays(launch):
    server = launch("checkpoint=tiny", "max_batch_size=8", "max_queue=32")
    host, _, port = server.base.removeprefix("http://").partition(":")
    expected = server.client.post("/v1/chat/completions", json=BODY).json()["choices"][0]["message"]["content"]
    with Health(f"{host}:{port}") as idle:
        asyncio.run(asyncio.sleep(2))
    processes = [server.process.pid, *server.children()]
    memory: list[int] = []
    health: list[Health] = []
    for _ in range(ROUNDS):
        with Health(f"{host}:{port}") as busy:
            answers = asyncio.run(flood(host, int(port)))
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
    assert memory[-1] - memory[0] < 32e6  # the first round makes the connections' and queues' room
