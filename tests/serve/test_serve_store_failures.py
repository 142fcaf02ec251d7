"""A database that goes, fills its disk, is damaged or comes back under many hands: nothing acknowledged is lost."""

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.storage import errors as store_errors
from serve.storage.database import StoreUnavailable
from serve.storage.sqlite_file import RESERVE_BYTES
from serve.storage.store import NewMessage, Store, new_message_id

ACKNOWLEDGED = "acknowledged"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a database is."""
    return tmp_path / "conversations.sqlite"


def message(text: str) -> NewMessage:
    return NewMessage("user", text, new_message_id())


async def kept(path: Path, conversation: str = "c") -> list[str]:
    """What another process finds in a database."""
    store = Store(f"sqlite:///{path}")
    try:
        return [row.content for row in await store.messages("", conversation)]
    finally:
        await store.close()


def remove(file: Path) -> None:
    file.unlink()


def remove_with_its_log(file: Path) -> None:
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()


def remove_only_its_log(file: Path) -> None:
    file.with_name(f"{file.name}-wal").unlink()


def replace(file: Path) -> None:
    empty = file.with_name("empty")
    sqlite3.connect(empty).close()
    empty.replace(file)


@pytest.mark.parametrize("go", [remove, remove_with_its_log, remove_only_its_log, replace])
def test_what_is_acknowledged_after_the_database_went_is_there_for_the_next_process(file, go):
    async def main() -> None:
        store = Store(f"sqlite:///{file}")
        await store.append("", "c", [message("before")], None)
        go(file)
        await store.append("", "c", [message(ACKNOWLEDGED)], None)
        assert ACKNOWLEDGED in await kept(file)
        assert ACKNOWLEDGED in [row.content for row in await store.messages("", "c")]
        await store.close()
        assert ACKNOWLEDGED in await kept(file)

    asyncio.run(main())


def test_a_renamed_database_has_what_was_acknowledged_before_and_the_new_one_what_was_after(file):
    async def main() -> None:
        store, renamed = Store(f"sqlite:///{file}"), file.with_name("renamed.sqlite")
        await store.append("", "c", [message("before")], None)
        file.rename(renamed)
        await store.append("", "c", [message("after")], None)
        await store.close()
        assert (await kept(renamed), await kept(file)) == (["before"], ["after"])

    asyncio.run(main())


def test_a_transaction_whose_file_goes_before_its_end_is_not_acknowledged(file):
    async def main() -> None:
        store = Store(f"sqlite:///{file}")
        await store.open()
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            async with store.session():
                remove(file)
        await store.append("", "c", [message(ACKNOWLEDGED)], None)
        assert await kept(file) == [ACKNOWLEDGED]
        await store.close()

    asyncio.run(main())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_named_and_logged_once_and_deleting_makes_room_for_writing(small_disk, caplog):
    caplog.set_level(logging.INFO, logger="resonance.serve")
    file = small_disk / "conversations.sqlite"

    async def main() -> None:
        store = Store(f"sqlite:///{file}")
        written = 0
        with pytest.raises(StoreUnavailable, match="the disk that holds them is full"):
            for written in range(1000):
                await store.append("", f"c{written}", [message(f"{written} words " * 1000)], None)
        (small_disk / "filler").write_bytes(b"x" * shutil.disk_usage(small_disk).free)
        for _ in range(20):
            with pytest.raises(StoreUnavailable, match="the disk that holds them is full"):
                await store.append("", "c", [message("x" * 100_000)], None)
        assert [record.getMessage() for record in caplog.records] == [
            f"the conversations cannot be reached: {store_errors.FULL}"
        ]
        for number in range(written // 2):
            assert await store.delete("", f"c{number}")
        await store.append("", "c", [message(ACKNOWLEDGED)], None)
        assert caplog.records[-1].getMessage() == "the conversations can be reached again"
        assert await kept(file) == [ACKNOWLEDGED]
        assert len(await kept(file, f"c{written - 1}")) == 1
        assert await store.delete_all("") == written - written // 2 + 1
        assert (small_disk / "conversations.sqlite-reserve").stat().st_size == RESERVE_BYTES
        await store.close()

    asyncio.run(main())


def test_a_whole_disk_of_conversations_is_deleted_at_once(small_disk):
    file = small_disk / "conversations.sqlite"

    async def main() -> None:
        store = Store(f"sqlite:///{file}")
        written = 0
        with pytest.raises(StoreUnavailable):
            for written in range(1000):
                await store.append("", f"c{written}", [message(f"{written} {os.urandom(4000).hex()}")], None)
        (small_disk / "filler").write_bytes(b"x" * shutil.disk_usage(small_disk).free)
        assert await store.delete_all("") == written
        await store.append("", "c", [message(ACKNOWLEDGED)], None)
        assert await kept(file) == [ACKNOWLEDGED]
        await store.close()

    asyncio.run(main())


def test_each_cause_has_its_name(file):
    async def cause(path: Path) -> str:
        store = Store(f"sqlite:///{path}")
        with pytest.raises(StoreUnavailable) as caught:
            await store.append("", "c", [message("x")], None)
        await store.close()
        return caught.value.cause

    async def main() -> None:
        assert await cause(file.parent / "no" / "folder.sqlite") == store_errors.NOT_OPENED
        store = Store(f"sqlite:///{file}")
        await store.append("", "c", [message("x" * 100_000)], None)
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="another process keeps the database locked"):
                await store.append("", "c", [message("x")], None)
            assert len(await store.messages("", "c")) == 1  # reading waits for nobody
            lock.execute("ROLLBACK")
        await store.close()
        data = bytearray(file.read_bytes())
        data[4096:] = os.urandom(len(data) - 4096)
        file.write_bytes(data)
        assert await cause(file) == store_errors.DAMAGED

    asyncio.run(main())


def test_a_read_only_database_is_named(small_disk):
    async def main() -> None:
        store = Store(f"sqlite:///{small_disk / 'conversations.sqlite'}")
        await store.append("", "c", [message("x")], None)
        await store.close()
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        with pytest.raises(StoreUnavailable, match=r"read-only|cannot be opened"):
            await store.append("", "c", [message("y")], None)

    asyncio.run(main())


def test_many_requests_that_find_the_store_back_open_it_once(file, caplog):
    async def main() -> list[object]:
        file.parent.rename(file.parent.with_name("away"))
        store = Store(f"sqlite:///{file}")
        with pytest.raises(StoreUnavailable):
            await store.open()
        file.parent.with_name("away").rename(file.parent)
        writes = [store.append("", f"c{i}", [message("x")], None) for i in range(24)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        await store.close()
        return outcomes

    assert asyncio.run(main()) == [None] * 24


FIRST_WRITE = """
import asyncio, sys
from serve.storage.store import NewMessage, Store

async def main(url, name):
    store = Store(url)
    await store.append(name, "c", [NewMessage("user", "x", name)], None)
    await store.close()

sys.stdin.readline()
asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_servers_that_start_on_one_new_database_make_it_once(kind, tmp_path, request):
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'conversations.sqlite'}"
    else:
        url = request.getfixturevalue("empty_postgres")
    command = [sys.executable, "-c", FIRST_WRITE, url]
    processes = [
        subprocess.Popen([*command, f"p{i}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for i in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, errors

    async def found() -> list[int]:
        store = Store(url)
        try:
            return [len(await store.messages(f"p{i}", "c")) for i in range(4)]
        finally:
            await store.close()

    assert asyncio.run(found()) == [1] * 4
