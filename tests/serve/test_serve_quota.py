"""How much each owner has stored is counted with whatever they do, and held to a limit."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from serve.storage import quota, votes
from serve.storage.import_export import NewConversation, add_conversations
from serve.storage.ownership import move
from serve.storage.quota import QuotaExceeded
from serve.storage.retention import delete_older_than
from serve.storage.store import NewMessage, Store, new_message_id
from serve.storage.tables import VoteRow
from tests.serve.stores import on_store

AT = datetime(2026, 1, 1, tzinfo=UTC)


def ballot(owner: str, name: str, minute: int) -> VoteRow:
    side = {"model": "m", "content": "wörds"}
    return VoteRow(
        owner=owner, id=name, created_at=AT + timedelta(minutes=minute), prompt=[], a=side, b=side, choice="tie"
    )


def message(text: str, role: str = "user") -> NewMessage:
    return NewMessage(role, text, new_message_id())


async def counted(store: Store, owner: str) -> int:
    async with store.reading() as session:
        return await quota.stored_bytes(session, owner)


async def recounted(store: Store, owner: str) -> int:
    async with store.session() as session:
        await quota.recount(session, owner)
        return await quota.stored_bytes(session, owner)


def coming(owner: str, name: str, text: str) -> NewConversation:
    own = {"owner": owner, "created_at": AT}
    optional = ("parent_id", "model", "finish_reason", "sources", "usage", "timing", "rating", "comment", "correction")
    row = own | {"conversation_id": name, "id": f"{name}-1", "position": 1, "role": "user", "content": text}
    values = own | {"id": name, "title": "t", "updated_at": AT}
    return NewConversation(values, [row | dict.fromkeys(optional)])


def test_the_count_is_what_is_there_whatever_is_done(url, owner):
    async def use(store: Store) -> None:
        chance = random.Random(3)
        for step in range(60):
            name = f"c{chance.randrange(4)}"
            texts = [chance.choice(("ä🙂", "x\x00y", "word ")) * chance.randrange(200) for _ in range(2)]
            match chance.randrange(7):
                case 0 | 1:
                    answer = NewMessage(
                        "assistant", texts[1], new_message_id(), sources={"ö": texts[1]}, usage={"n": 1}
                    )
                    await store.append(owner, name, [message(texts[0]), answer], None)
                    await store.rate(owner, name, answer.id, 1, texts[0], None)
                case 2:
                    rows = await store.messages(owner, name)
                    if rows:
                        await store.delete_message(owner, name, chance.choice(rows).id)
                case 3:
                    await store.delete(owner, name)
                case 4:
                    await add_conversations(store, owner, [coming(owner, f"{name}-{n}", texts[0]) for n in range(3)])
                case 5:
                    vote = ballot(owner, f"v{step}", step)
                    vote.prompt = [{"role": "user", "content": texts[0]}]
                    await votes.add_vote(store, vote)
                case _:
                    await votes.delete_vote(store, owner, f"v{step - 1}")
            assert await counted(store, owner) == await recounted(store, owner), step
        await delete_older_than(store, days=0)
        assert await counted(store, owner) == 0

    on_store(url, use)


def test_what_goes_over_the_limit_is_refused_whole_and_deleting_makes_room(url, owner):
    async def use(_: Store) -> None:
        store = Store(url, max_bytes=20_000)
        question = message("x" * 15_000)
        await store.append(owner, "c", [question], None)
        await store.append(owner, "c", [message("y" * 8_000, "assistant")], question.id, answer=True)  # it was let in
        before = await counted(store, owner)
        for refused in (
            store.append(owner, "d", [message("z")], None),
            add_conversations(store, owner, [coming(owner, "d", "z")]),
            votes.add_vote(store, ballot(owner, "v", 0)),
        ):
            with pytest.raises(QuotaExceeded):
                await refused
        assert await counted(store, owner) == before
        assert await store.messages(owner, "d") == []
        await store.append(owner + "2", "d", [message("z")], None)  # another's share is another's
        assert await store.delete(owner, "c")
        await store.append(owner, "d", [message("z")], None)
        await store.close()

    on_store(url, use)


def test_those_that_store_at_the_same_time_are_all_counted(url, owner):
    async def use(store: Store) -> None:
        await asyncio.gather(*(store.append(owner, f"c{n}", [message("x" * n)], None) for n in range(12)))
        assert await counted(store, owner) == await recounted(store, owner) > 12 * 512

    on_store(url, use)


def test_who_is_given_another_owners_conversations_has_them_counted(url, owner):
    async def use(store: Store) -> None:
        for whose in (owner, owner + "2"):
            await store.append(whose, "c", [message("x" * 1000)], None)
            await votes.add_vote(store, ballot(whose, "v", 0))
        both = await counted(store, owner) + await counted(store, owner + "2")
        await move(store, owner, owner + "2")
        assert (await counted(store, owner), await counted(store, owner + "2")) == (0, both)

    on_store(url, use)
