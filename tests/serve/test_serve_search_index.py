"""A search finds what reading every text would find, on every database, and reads few of them."""

import asyncio
import sqlite3
import time
from pathlib import Path

import hypothesis.strategies as st
import pytest
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Connection

from serve.storage import quota
from serve.storage.store import NewMessage, Store, new_message_id
from tests.serve.stores import on_store

LETTERS = st.sampled_from("aAbBcß ẞäÄöİıIiſσςΣЖж漢字🙂\"'%_\\/*\x00\ufffe\u0301\n")
TEXTS = st.text(LETTERS, max_size=12)


def message(text: str, role: str = "user") -> NewMessage:
    return NewMessage(role, text, new_message_id())


def test_a_search_finds_what_reading_everything_would(url, owner):
    number = 0
    with asyncio.Runner() as runner:
        store = Store(url)
        runner.run(store.open())

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(
            talks=st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=6),
            queries=st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=6),
            data=st.data(),
        )
        def check(talks, queries, data):
            nonlocal number
            number += 1
            runner.run(agree(store, f"{owner}-{number}", talks, [*queries, *parts(talks, data)]))

        check()
        runner.run(store.close())


def parts(talks, data) -> list[str]:
    """Pieces of what was said, in any case of letters."""
    found = []
    for text in [text for _, texts in talks for text in texts if text][:4]:
        start = data.draw(st.integers(0, len(text) - 1))
        piece = text[start : start + data.draw(st.integers(1, 8))]
        found.append(data.draw(st.sampled_from((piece, piece.upper(), piece.lower()))))
    return found


async def agree(store: Store, owner: str, talks: list[tuple[str, list[str]]], queries: list[str]) -> None:
    for number, (title, texts) in enumerate(talks):
        await store.append(owner, f"c{number}", [message(text) for text in texts], None)
        await store.change(owner, f"c{number}", {"title": title})
    for query in queries:
        words = query.replace("\x00", "\ufffd").lower()

        def has(text: str, words: str = words) -> bool:
            return words in text.replace("\x00", "\ufffd").lower()

        titled = {f"c{n}" for n, (title, _) in enumerate(talks) if has(title)}
        newest = {
            f"c{n}": [t for t in texts if has(t)][-1] for n, (_, texts) in enumerate(talks) if any(map(has, texts))
        }
        rows, _ = await store.page(owner, limit=100, after=None, query=query)
        assert {row.id for row, _ in rows} == titled | newest.keys(), query
        found = await store.newest_matches(owner, [row.id for row, _ in rows], query)
        shown = {id: text.replace("\x00", "\ufffd") for id, text in newest.items()}
        assert {id: row.content for id, row in found.items()} == shown, query


def test_what_is_deleted_or_renamed_is_not_found_by_its_words(url, owner):
    async def use(store: Store) -> None:
        gone = message("a lighthouse")
        await store.append(owner, "c", [gone, message("by the sea")], None)
        await store.append(owner, "d", [message("another lighthouse")], None)
        await store.change(owner, "c", {"title": "Title"})
        await store.delete_message(owner, "c", gone.id)
        assert await ids(store, owner, "lighthouse") == ["d"]
        await store.delete(owner, "d")
        assert await ids(store, owner, "lighthouse") == []
        await store.change(owner, "c", {"title": "The lighthouse"})
        assert await ids(store, owner, "LIGHTHOUSE") == ["c"]

    on_store(url, use)


async def ids(store: Store, owner: str, query: str) -> list[str]:
    rows, _ = await store.page(owner, limit=100, after=None, query=query)
    return [row.id for row, _ in rows]


def upgrade_to(connection: Connection, revision: str) -> None:
    """Bring an empty database to an earlier form of its tables."""
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    import serve.storage.migrations as migrations

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, script, fn=lambda now, _: script._upgrade_revs(revision, now)) as context:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()


def test_what_was_stored_by_an_earlier_version_is_found_and_counted(tmp_path):
    import sqlalchemy as sa

    path = tmp_path / "conversations.sqlite"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade_to(connection, "0003")
    engine.dispose()
    at = "2026-01-01 00:00:00.000000"
    with sqlite3.connect(path) as database:
        for number in range(1200):
            name = f"c{number}"
            database.execute("INSERT INTO conversations VALUES ('ada', ?, ?, ?, ?)", (name, f"ÄPFEL {number}", at, at))
            database.execute(
                "INSERT INTO messages (owner, conversation_id, id, position, role, content, created_at, sources) "
                "VALUES ('ada', ?, ?, 1, 'user', ?, ?, ?)",
                (name, f"m{number}", f"BIRNEN Nummer {number}.", at, '{"ö": 1}'),
            )
        database.execute("INSERT INTO votes VALUES ('grace', 'v', ?, '[]', '{}', '{}', 'a')", (at,))
    database.close()

    async def use(store: Store) -> None:
        assert await ids(store, "ada", "äpfel 77") == [f"c{n}" for n in sorted([77, *range(770, 780)], key=str)[::-1]]
        assert await ids(store, "ada", "nummer 1199.") == ["c1199"]
        await store.delete("ada", "c1199")
        assert await ids(store, "ada", "nummer 1199.") == []
        async with store.session() as session:
            for owner in ("ada", "grace"):
                counted = await quota.stored_bytes(session, owner)
                await quota.recount(session, owner)
                assert counted == await quota.stored_bytes(session, owner) > 0

    on_store(f"sqlite:///{path}", use)


def test_an_index_survives_what_numbers_rows_anew(tmp_path):
    path = tmp_path / "conversations.sqlite"

    async def write(store: Store) -> None:
        for number in range(20):
            await store.append("", f"c{number}", [message(f"word{number:02}")], None)
        for number in range(10):
            await store.delete("", f"c{number}")

    async def find(store: Store) -> None:
        for number in range(20):
            assert await ids(store, "", f"Word{number:02}") == ([f"c{number}"] if number >= 10 else [])

    on_store(f"sqlite:///{path}", write)
    database = sqlite3.connect(path)
    database.execute("VACUUM")
    database.close()
    on_store(f"sqlite:///{path}", find)


@pytest.mark.slow
@pytest.mark.timing
def test_a_rare_word_among_20000_messages_is_found_in_a_fraction_of_reading_them(tmp_path):
    async def use(store: Store) -> None:
        for number in range(1000):
            texts = [f"{number} {place} " + "some words that stand everywhere " * 15 for place in range(20)]
            await store.append("", f"c{number}", [message(text) for text in texts], None)
        began = time.perf_counter()
        assert await ids(store, "", "987 19 some") == ["c987"]
        indexed = time.perf_counter() - began
        began = time.perf_counter()
        everything = [row.content for number in range(1000) for row in await store.messages("", f"c{number}")]
        assert sum("987 19 some" in text.lower() for text in everything) == 1
        assert indexed < (time.perf_counter() - began) / 10

    on_store(f"sqlite:///{tmp_path / 'conversations.sqlite'}", use)
