"""Whatever servers share a database, one of them at a time answers in a conversation."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx
import pytest
from sqlalchemy import delete, update

from serve.storage.errors import SessionLost
from serve.storage.session_locks import SessionBusy, SessionLocks
from serve.storage.store import NewMessage, Store, new_message_id
from serve.storage.tables import SessionLockRow

HOLD = """
import asyncio, sys
from serve.storage.session_locks import SessionLocks
from serve.storage.store import Store

async def main(url, owner):
    store = Store(url)
    locks = SessionLocks(store)
    await locks.acquire(owner, "c")
    print("held", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main(*sys.argv[1:]))
"""


def run(url: str, use: Callable[[Store, SessionLocks], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(url)
        await store.open()
        try:
            await use(store, SessionLocks(store))
        finally:
            await store.close()

    asyncio.run(main())


def message(text: str) -> NewMessage:
    return NewMessage("user", text, new_message_id())


def test_another_process_waits_for_the_lock_and_takes_it_from_one_that_was_killed(url, owner):
    with subprocess.Popen([sys.executable, "-c", HOLD, url, owner], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        async def while_held(store: Store, locks: SessionLocks) -> None:
            with pytest.raises(SessionBusy):
                await locks.acquire(owner, "c")
            with pytest.raises(SessionBusy):
                await store.delete(owner, "c")
            await locks.acquire(owner, "d")
            await locks.acquire(owner + "2", "c")

        async def afterwards(_: Store, locks: SessionLocks) -> None:
            await locks.acquire(owner, "c")

        try:
            run(url, while_held)
        finally:
            holder.kill()
            holder.wait()
        run(url, afterwards)


def test_a_lock_of_another_machine_is_free_when_it_was_not_renewed(url, owner):
    async def use(store: Store, locks: SessionLocks) -> None:
        await locks.acquire(owner, "c")
        elsewhere = update(SessionLockRow).where(SessionLockRow.owner == owner).values(process="elsewhere/1/1")
        async with store.session() as session:
            await session.execute(elsewhere)
        with pytest.raises(SessionBusy):
            await locks.acquire(owner, "c")
        async with store.session() as session:
            await session.execute(elsewhere.values(expires_at=time.time() - 1))
        await locks.acquire(owner, "c")

    run(url, use)


def test_who_has_lost_the_lock_stores_nothing(url, owner):
    async def use(store: Store, locks: SessionLocks) -> None:
        lock = await locks.acquire(owner, "c")
        question = message("before")
        await store.append(owner, "c", [question], None, lock)
        async with store.session() as session:
            await session.execute(delete(SessionLockRow).where(SessionLockRow.owner == owner))
        with pytest.raises(SessionLost):
            await store.append(owner, "c", [message("after")], question.id, lock, answer=True)
        assert [row.content for row in await store.messages(owner, "c")] == ["before"]

    run(url, use)


def test_an_answer_gives_the_lock_back_as_it_is_stored(url, owner):
    async def use(store: Store, locks: SessionLocks) -> None:
        lock = await locks.acquire(owner, "c")
        async with locks.storing(lock):
            await store.append(owner, "c", [message("x")], None, lock, answer=True)
        locks.release_soon(lock)
        await locks.released()
        async with store.reading() as session:
            assert await session.get(SessionLockRow, (owner, "c")) is None

    run(url, use)


LONG = {"messages": [{"role": "user", "content": "Talk"}], "max_tokens": 8000, "logit_bias": {"50256": -100}}
SHORT = LONG | {"max_tokens": 2}


def chat(server, session: str, **fields) -> httpx.Response:
    return server.client.post("/v1/chat/completions", json=SHORT | {"session_id": session} | fields)


def first_token(lines) -> None:
    for line in lines:
        if line.startswith("data: {") and json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get("content"):
            return
    raise AssertionError("the stream ended before its first token")


def test_two_servers_on_one_database_never_fork_a_conversation_and_lose_nothing(launch, tmp_path):
    """One after another on the same two servers, which take their time to start."""
    file = tmp_path / "conversations.sqlite"
    settings = ("checkpoint=tiny", "max_batch_size=8", "resume_s=0", f"store.url=sqlite:///{file}")
    one, other = launch(*settings, ready=False), launch(*settings, ready=False)
    one.wait_until_ready()
    other.wait_until_ready()

    # Both write to one conversation as fast as they can.
    outcomes: Counter[int] = Counter()

    def write(server) -> None:
        for _ in range(15):
            outcomes[chat(server, "shared").status_code] += 1

    threads = [threading.Thread(target=write, args=(server,)) for server in (one, other) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {200, 409}
    messages = one.client.get("/v1/conversations/shared").json()["messages"]
    assert len(messages) == 2 * outcomes[200] >= 2
    assert [m["parent_id"] for m in messages] == [None, *[m["id"] for m in messages[:-1]]]

    # While one answers, the other neither answers nor deletes; when the one is killed, it does at once.
    with one.client.stream("POST", "/v1/chat/stream", json=LONG | {"session_id": "long"}) as response:
        lines = response.iter_lines()  # a stream of lines that nobody holds is closed
        first_token(lines)
        refused = chat(other, "long")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_busy")
        assert refused.headers["Retry-After"]
        assert other.client.delete("/v1/conversations/long").status_code == 409
        assert chat(other, "another").status_code == 200
    assert other.until(lambda: chat(other, "long").status_code == 200)
    with one.client.stream("POST", "/v1/chat/stream", json=LONG | {"session_id": "killed"}) as response:
        lines = response.iter_lines()  # a stream of lines that nobody holds is closed
        first_token(lines)
        for pid in [one.process.pid, *one.children()]:
            os.kill(pid, signal.SIGKILL)
        one.process.wait()
    assert other.until(lambda: chat(other, "killed").status_code == 200, seconds=5)

    # The database goes: before a turn, and in the middle of one.
    for path in tmp_path.glob("conversations.sqlite*"):
        path.unlink()
    assert chat(other, "after").status_code == 200
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT count(*) FROM messages").fetchone() == (2,)
    with other.client.stream("POST", "/v1/chat/stream", json=LONG | {"session_id": "x", "max_tokens": 300}) as response:
        lines = response.iter_lines()
        first_token(lines)
        for path in tmp_path.glob("conversations.sqlite*"):
            path.unlink()
        rest = list(lines)
    error = json.loads(rest[rest.index("event: error") + 1].removeprefix("data: "))["error"]
    assert error["code"] == "store_unavailable"
    assert other.client.get("/v1/conversations").json()["data"] == []
    assert other.log.read_text().count("it is opened anew") == 2
