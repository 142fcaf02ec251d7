"""No turn that was acknowledged is lost, whenever the server is killed."""

import asyncio
import os
import random
import signal
import threading
import uuid

import httpx
import pytest

from serve.storage.store import Store


class Talker:
    """Talks in one conversation until its server is gone, and remembers what was acknowledged."""

    def __init__(self, base: str) -> None:
        self.base, self.session = base, f"s-{uuid.uuid4().hex[:12]}"
        self.said: list[str] = []  # turns whose stream has begun
        self.heard: list[str] = []  # ids of answers whose end was read
        self.thread = threading.Thread(target=self.talk)

    def talk(self) -> None:
        turn = 0
        with httpx.Client(base_url=self.base, timeout=100) as client:
            while True:
                words = f"{self.session} turn {turn}"
                body = {"messages": [{"role": "user", "content": words}], "session_id": self.session, "max_tokens": 6}
                try:
                    with client.stream("POST", "/v1/chat/stream", json=body) as response:
                        if response.status_code != 200:
                            continue
                        for line in response.iter_lines():
                            if line.startswith("id: ") and words not in self.said:
                                self.said.append(words)
                                answer = line.removeprefix("id: ").partition(":")[0]
                            if line == "data: [DONE]":
                                self.heard.append(answer)
                except httpx.HTTPError:
                    return
                turn += 1


def lost(home, talkers: list[Talker]) -> list[str]:
    """What was acknowledged and is not in the database."""

    async def look() -> list[str]:
        store = Store(f"sqlite:///{home / 'conversations.sqlite'}")
        missing = []
        for talker in talkers:
            rows = await store.messages("", talker.session)
            kept = {row.content for row in rows} | {row.id for row in rows}
            missing += [turn for turn in [*talker.said, *talker.heard] if turn not in kept]
            assert [row.parent_id for row in rows][1:] == [row.id for row in rows][:-1]
        await store.close()
        return missing

    return asyncio.run(look())


def kill_and_count(launch, alive, seconds: float, *, children_too: bool) -> int:
    """Kill a server that is talked with; check that nothing is lost or left behind, and return how much was heard."""
    server = launch("checkpoint=tiny", "max_batch_size=4", "max_queue=8")
    children = server.children()
    assert len(children) >= 3
    talkers = [Talker(server.base) for _ in range(4)]
    for talker in talkers:
        talker.thread.start()
    assert server.until(lambda: all(talker.heard for talker in talkers))
    threading.Event().wait(seconds)
    for pid in [server.process.pid, *(children if children_too else [])]:
        os.kill(pid, signal.SIGKILL)
    server.process.wait()
    for talker in talkers:
        talker.thread.join()
    assert server.until(lambda: not any(alive(pid) for pid in children))
    assert lost(server.log.parent, talkers) == []
    return sum(len(talker.heard) for talker in talkers)


def test_a_killed_main_process_loses_no_turn_and_nothing_outlives_it(launch, alive):
    assert kill_and_count(launch, alive, 0.5, children_too=False) >= 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_kills_at_random_moments_lose_no_turn(launch, alive):
    moments = random.Random(0)
    for _ in range(25):  # each costs a server's start
        assert kill_and_count(launch, alive, moments.uniform(0, 1), children_too=True) >= 4
