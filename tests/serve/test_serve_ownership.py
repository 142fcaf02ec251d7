"""What one owner has goes to another, whole, the same on SQLite and on PostgreSQL."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from resonance.errors import ResonanceError
from serve.api.auth import KeyRing
from serve.api.background import move_to_named_owners
from serve.keys import main
from serve.owners import keys_file, owner_id_of_name, parse_environment_keys
from serve.storage import votes
from serve.storage.errors import StoreUnavailable
from serve.storage.ownership import Amount, holdings, move
from serve.storage.quota import ROW_BYTES, recount, stored_bytes
from serve.storage.store import NewMessage, Store, new_message_id
from serve.storage.tables import MessageRow, VoteRow

ALICE = owner_id_of_name("alice")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'conversations.sqlite'}"
    return request.getfixturevalue("empty_postgres")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path))
    monkeypatch.delenv("RESONANCE_API_KEYS", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)


def run(url: str, use: Callable[[Store], Awaitable[object]]):
    async def whole():
        store = Store(url)
        await store.open()
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(whole())


def message(role: str, text: str) -> NewMessage:
    return NewMessage(role, text, new_message_id())


def vote(owner: str, name: str) -> VoteRow:
    side = {"model": "m", "content": "x"}
    return VoteRow(owner=owner, id=name, created_at=datetime.now(UTC), prompt=[], a=side, b=side, choice="a")


async def contents(store: Store, owner: str) -> dict[str, list[str]]:
    """What an owner's conversations say, by their titles."""
    rows, _ = await store.page(owner, limit=100, after=None, query=None)
    return {row.title: [m.content for m in await store.messages(owner, row.id)] for row, _ in rows}


def test_what_was_written_without_keys_is_counted_listed_and_claimed(url, capsys):
    async def write(store: Store):
        for name in ("a", "b"):
            await store.append("", name, [message("user", f"keyless {name}"), message("assistant", "yes")], None)
        await votes.add_vote(store, vote("", "v"))
        await store.append("0123lost", "c", [message("user", "of a lost key")], None)
        await store.append(ALICE, "d", [message("user", "alice's own")], None)

    run(url, write)
    main(["action=add", "name=alice"])
    main(["action=claim", f"store.url='{url}'"])
    table = capsys.readouterr().out
    assert "(nobody)" in table
    assert "0123lost" in table
    assert ALICE not in table
    main(["action=claim", "name=alice", f"store.url='{url}'"])
    assert "alice has 2 conversations with 4 messages and 1 vote now" in capsys.readouterr().out
    main(["action=claim", "name=alice", "from=0123lost", f"store.url='{url}'"])
    assert "1 conversation with 1 message and 0 votes" in capsys.readouterr().out
    main(["action=claim", "name=alice", f"store.url='{url}'"])
    assert "nothing to claim" in capsys.readouterr().out
    with pytest.raises(ResonanceError, match="Nothing that is stored belongs to '0123lost'"):
        main(["action=claim", "name=alice", "from=0123lost", f"store.url='{url}'"])

    async def read(store: Store):
        assert await contents(store, ALICE) == {
            "keyless a": ["keyless a", "yes"],
            "keyless b": ["keyless b", "yes"],
            "of a lost key": ["of a lost key"],
            "alice's own": ["alice's own"],
        }
        page, _ = await store.page(ALICE, limit=10, after=None, query="keyless")
        assert {row.id for row, _ in page} == {"a", "b"}
        assert [row.id for row in (await votes.votes(store, ALICE, limit=10, after=None))[0]] == ["v"]
        assert [holding.owner for holding in await holdings(store)] == [ALICE]
        async with store.session() as session:
            counted = await stored_bytes(session, ALICE)
            assert await stored_bytes(session, "") == 0
            await recount(session, ALICE)
            assert counted == await stored_bytes(session, ALICE) > 5 * ROW_BYTES

    run(url, read)


def test_the_same_ids_at_both_owners_lose_nothing(url):
    async def use(store: Store):
        shared = message("user", "one")
        await store.append("", "same", [shared, message("assistant", "two")], None)
        await store.append(ALICE, "same", [message("user", "other")], None)
        await store.append(ALICE, "elsewhere", [NewMessage("user", "with a known id", shared.id)], None)
        for owner in ("", ALICE):
            await votes.add_vote(store, vote(owner, "v"))
        assert await move(store, "", ALICE) == Amount(1, 2, 1)
        assert await contents(store, ALICE) == {
            "one": ["one", "two"],
            "other": ["other"],
            "with a known id": ["with a known id"],
        }
        rows, _ = await store.page(ALICE, limit=10, after=None, query="two")
        first, second = await store.messages(ALICE, rows[0][0].id)
        assert (second.parent_id, first.parent_id) == (first.id, None)
        assert len((await votes.votes(store, ALICE, limit=10, after=None))[0]) == 2
        assert await contents(store, "") == {}

    run(url, use)


def test_an_answer_that_was_under_way_during_the_move_joins_its_conversation_at_the_next(url):
    async def use(store: Store):
        question, answer = message("user", "why?"), message("assistant", "because")
        await store.append("", "c", [question], None)
        await move(store, "", ALICE)
        await store.append("", "c", [answer], question.id)
        assert await move(store, "", ALICE) == Amount(1, 1, 0)
        assert [(m.content, m.position) for m in await store.messages(ALICE, "c")] == [("why?", 1), ("because", 2)]

    run(url, use)


def test_nothing_is_lost_while_a_server_goes_on_writing(url):
    """One writes into new and old conversations as fast as it can while all is moved, again and again."""
    written: list[str] = []
    end = threading.Event()

    async def write(store: Store):
        for i in range(80):
            text = f"message {i}"
            try:
                await store.append("", f"c{i % 20}", [message("user", text)], None)
            except StoreUnavailable:  # refused, and so not acknowledged
                continue
            written.append(text)
        end.set()

    async def claim(store: Store):
        while not end.is_set():
            await move(store, "", ALICE)
            await asyncio.sleep(0.02)
        await move(store, "", ALICE)
        async with store.reading() as session:
            found = list(await session.scalars(select(MessageRow.content).where(MessageRow.owner == ALICE)))
        return found, await holdings(store)

    writing = threading.Thread(target=run, args=(url, write))
    run(url, lambda store: store.messages("", "c"))
    writing.start()
    found, held = run(url, claim)
    writing.join()
    assert len(written) > 20
    assert sorted(set(written) & set(found)) == sorted(written)
    assert [holding.owner for holding in held] == [ALICE]


def test_a_message_that_is_being_written_when_the_move_begins_goes_with_its_conversation(url):
    async def use(store: Store):
        await store.append("", "c", [message("user", "before")], None)
        server = Store(url)
        async with server.session() as session:
            fields = {"owner": "", "conversation_id": "c", "role": "user", "created_at": datetime.now(UTC)}
            session.add(MessageRow(**fields, id="late", position=2, content="written meanwhile"))
            await session.flush()
            moving = asyncio.create_task(move(store, "", ALICE))
            await asyncio.sleep(0.5)
        assert await moving == Amount(1, 2, 0)
        await server.close()
        assert await contents(store, ALICE) == {"before": ["before", "written meanwhile"]}

    run(url, use)


def test_what_a_key_without_a_name_has_written_is_its_owners_once_the_key_has_a_name(url):
    before = KeyRing(parse_environment_keys("secret"), keys_file(), open=False).owner("secret")
    now = KeyRing(parse_environment_keys("alice:secret,other"), keys_file(), open=False)

    async def use(store: Store):
        await store.append(before, "c", [message("user", "from before")], None)
        await store.append(now.owner("other"), "c", [message("user", "other's")], None)
        await move_to_named_owners(store, now)
        assert await contents(store, ALICE) == {"from before": ["from before"]}
        assert await contents(store, now.owner("other")) == {"other's": ["other's"]}

    assert now.owner("secret") == ALICE
    run(url, use)


def test_what_stood_under_the_key_of_an_old_keys_file_is_its_owners_after_the_key_has_changed(url, capsys):
    """The first version kept conversations under the key's hash; its file and database are taken over as they are."""
    sha256 = "ab" * 32
    entry = {"name": "alice", "sha256": sha256, "created_at": "2026-01-01T00:00:00Z", "admin": False}
    keys_file().write_text(json.dumps([entry]))
    run(url, lambda store: store.append(sha256[:32], "c", [message("user", "from before")], None))
    main(["action=rotate", "name=alice"])
    main(["action=claim", f"store.url='{url}'"])
    assert "Everything that is stored belongs to" in capsys.readouterr().out
    owner = json.loads(keys_file().read_text())["owners"][0]["id"]
    assert run(url, lambda store: contents(store, owner)) == {"from before": ["from before"]}
