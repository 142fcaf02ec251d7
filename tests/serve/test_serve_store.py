"""The store by itself, the same on SQLite and on PostgreSQL."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from serve.storage import votes
from serve.storage.database import StoreError, StoreUnavailable
from serve.storage.retention import delete_older_than
from serve.storage.store import NewMessage, Store, new_message_id
from serve.storage.tables import Base, VoteRow


def run(url: str, use: Callable) -> object:
    async def main() -> object:
        store = Store(url)
        await store.open()
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(main())


def message(role: str, text: str) -> NewMessage:
    return NewMessage(role, text, new_message_id())


def test_messages_come_back_in_order_in_another_process_of_time(url, owner):
    user, answer = message("user", "Hello, wörld 🌍\x00"), message("assistant", "Hi")

    async def write(store: Store):
        await store.append(owner, "c", [user], None)
        await store.append(owner, "c", [answer], user.id)

    async def read(store: Store):
        return await store.conversation(owner, "c")

    run(url, write)
    conversation, messages = run(url, read)
    assert [(m.role, m.content, m.parent_id) for m in messages] == [
        ("user", "Hello, wörld 🌍\ufffd", None),
        ("assistant", "Hi", user.id),
    ]
    assert conversation.title == "Hello, wörld 🌍\ufffd"
    assert conversation.created_at <= conversation.updated_at


def test_owners_never_see_each_others_conversations_even_with_the_same_id(url, owner):
    async def use(store: Store):
        mine, yours = message("user", "mine"), message("assistant", "yours")
        await store.append(owner, "c", [mine], None)
        await store.append(owner + "2", "c", [yours], None)
        assert [m.content for m in await store.messages(owner, "c")] == ["mine"]
        assert not await store.rate(owner, "c", yours.id, 1, None, None)
        assert await store.delete(owner + "2", "c")
        assert [m.content for m in await store.messages(owner, "c")] == ["mine"]
        pages, more = await store.page(owner, limit=10, after=None, query=None)
        assert ([(row.id, count) for row, count in pages], more) == ([("c", 1)], False)

    run(url, use)


def test_search_takes_signs_of_patterns_for_themselves(url, owner):
    async def use(store: Store):
        for name, text in (("a", "100% sure_thing"), ("b", "1000 other things")):
            await store.append(owner, name, [message("user", text)], None)
        for query, expected in (("100%", ["a"]), ("sure_", ["a"]), ("THING", ["b", "a"]), ("%", ["a"]), ("none", [])):
            page, _ = await store.page(owner, limit=10, after=None, query=query)
            assert [row.id for row, _ in page] == expected, query

    run(url, use)


def test_search_knows_small_and_capital_letters_of_all_languages_and_the_newest_message_with_the_words(url, owner):
    async def use(store: Store):
        said = [message("user", "Äpfel und Birnen"), message("assistant", "Die ÄPFEL sind rot."), message("user", "Ja")]
        await store.append(owner, "a", said, None)
        await store.append(owner, "b", [message("user", "Birnen"), message("system", "äpfel")], None)
        page, _ = await store.page(owner, limit=10, after=None, query="äpfel")
        assert {row.id for row, _ in page} == {"a", "b"}
        found = await store.newest_matches(owner, ["a", "b"], "äpfel")
        assert {name: row.content for name, row in found.items()} == {"a": "Die ÄPFEL sind rot."}

    run(url, use)


def test_a_nul_in_whatever_is_stored_or_looked_for_is_a_sign_like_others(url, owner):
    async def use(store: Store):
        said = message("assistant", "one\x00two")
        await store.append(owner, "c", [message("user", "x"), said], None)
        assert await store.conversation(owner, "c\x00") is None
        assert not await store.delete_message(owner, "c", "\x00")
        assert await store.page(owner, limit=10, after="\x00", query=None) == ([], False)
        page, _ = await store.page(owner, limit=10, after=None, query="one\x00")
        assert [row.id for row, _ in page] == ["c"]
        assert (await store.newest_matches(owner, ["c"], "E\x00TWO")).keys() == {"c"}
        assert await store.rate(owner, "c", said.id, 1, "no\x00", None)
        assert await store.change(owner, "c", {"title": "a\x00"})
        vote = ballot(owner, "v", 0)
        vote.prompt = [{"role": "user", "content": "\x00"}]
        await votes.add_vote(store, vote)
        (kept,), _ = await votes.votes(store, owner, limit=1, after=None)
        assert kept.prompt == vote.prompt

    run(url, use)


def test_votes_are_an_owners_own_come_newest_first_and_can_be_taken_back(url, owner):
    async def use(store: Store):
        for i in range(5):
            await votes.add_vote(store, ballot(owner, f"v{i}", i))
        await votes.add_vote(store, ballot(owner + "2", "v0", 0))
        first, more = await votes.votes(store, owner, limit=3, after=None)
        rest, end = await votes.votes(store, owner, limit=3, after=first[-1].id)
        assert [vote.id for vote in (*first, *rest)] == ["v4", "v3", "v2", "v1", "v0"]
        assert (more, end) == (True, False)
        assert first[0].a == {"model": "m", "content": "wörds"}
        assert await votes.delete_vote(store, owner, "v0")
        assert not await votes.delete_vote(store, owner, "v0")
        assert len((await votes.votes(store, owner + "2", limit=3, after=None))[0]) == 1

    run(url, use)


def ballot(owner: str, name: str, minute: int) -> VoteRow:
    side = {"model": "m", "content": "wörds"}
    at = datetime(2026, 1, 1, 12, minute, tzinfo=UTC)
    return VoteRow(owner=owner, id=name, created_at=at, prompt=[], a=side, b=side, choice="tie")


def test_all_of_an_owners_conversations_are_deleted_and_nobody_elses(url, owner):
    async def use(store: Store):
        for name, whose in (("c", owner), ("d", owner), ("c", owner + "2")):
            await store.append(whose, name, [message("user", "x")], None)
        assert await store.delete_all(owner) == 2
        assert await store.messages(owner, "c") == []
        assert len(await store.messages(owner + "2", "c")) == 1
        assert await store.delete_all(owner) == 0

    run(url, use)


def test_old_conversations_and_votes_are_forgotten(url, owner):
    async def use(store: Store):
        await store.append(owner, "c", [message("user", "x")], None)
        await votes.add_vote(store, ballot(owner, "old", 0))
        await delete_older_than(store, days=1)
        assert await store.conversation(owner, "c") is not None
        assert await votes.votes(store, owner, limit=1, after=None) == ([], False)
        await delete_older_than(store, days=0)
        assert await store.conversation(owner, "c") is None
        assert await store.messages(owner, "c") == []

    run(url, use)


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(url):
    async def use(store: Store):
        assert store._engine is not None
        async with store._engine.connect() as connection:
            return await connection.run_sync(
                lambda sync: compare_metadata(
                    MigrationContext.configure(
                        sync,
                        # SQLAlchemy knows no such index: on SQLite a table with tables of its own.
                        opts={"include_name": lambda name, *_: not (name or "").startswith("folded_trigrams")},
                    ),
                    Base.metadata,
                )
            )

    assert run(url, use) == []


def test_a_database_that_is_broken_or_away_is_unavailable_and_nothing_else(tmp_path):
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"this is no database at all" * 100)
    for url in (f"sqlite:///{broken}", f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.sqlite'}"):
        asyncio.run(refused(Store(url)))


async def refused(store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        await store.messages("", "c")
    await asyncio.sleep(0.2)  # SQLite's thread says goodbye to the loop


def test_an_address_that_is_none_is_said_so():
    with pytest.raises(StoreError, match=r"store\.url"):
        Store("not a database")


def test_long_titles_end_at_a_word(url, owner):
    async def use(store: Store):
        await store.append(owner, "c", [message("user", "many words " * 20)], None)
        found = await store.conversation(owner, "c")
        assert found is not None
        return found[0].title

    title = run(url, use)
    assert isinstance(title, str)
    assert len(title) <= 61
    assert title.endswith(("words…", "many…"))
