"""Stores of judgements to learn from, by one owner who agreed to it."""

from datetime import UTC, datetime

from serve.storage.consent import set_consent
from serve.storage.store import NewMessage, Store, new_message_id
from serve.storage.tables import VoteRow
from serve.storage.votes import add_vote
from tests.serve.stores import on_store


def fill(url: str, first: int, count: int) -> None:
    """Answers that were corrected, of the conversations from `first` on."""

    async def work(store: Store) -> None:
        await set_consent(store, "", given=True)
        for number in range(first, first + count):
            asked = NewMessage("user", f"What is {number} plus one?", new_message_id())
            said = NewMessage("assistant", "5", new_message_id(), model="first", finish_reason="stop")
            await store.append("", f"c{number}", [asked, said], None)
            assert await store.rate("", f"c{number}", said.id, -1, None, str(number + 1))

    on_store(url, work)


def fill_thumbs(url: str, count: int) -> None:
    """Thumbs up and down in turn, and nothing else."""

    async def work(store: Store) -> None:
        await set_consent(store, "", given=True)
        for number in range(count):
            asked = NewMessage("user", f"What is {number} plus one?", new_message_id())
            text = str(number + 1 + number % 2)
            said = NewMessage("assistant", text, new_message_id(), model="first", finish_reason="stop")
            await store.append("", f"c{number}", [asked, said], None)
            assert await store.rate("", f"c{number}", said.id, -1 if number % 2 else 1, None, None)

    on_store(url, work)


def fill_votes(url: str, count: int) -> None:
    """Votes in blind comparisons: another question each, and the better answer now left, now right."""

    async def work(store: Store) -> None:
        await set_consent(store, "", given=True)
        for number in range(count):
            answers = [{"model": "first", "content": str(number + add), "settings": {}} for add in (1, 2)]
            better = number % 2
            await add_vote(
                store,
                VoteRow(
                    owner="", id=f"vote-{number}", created_at=datetime.now(UTC), a=answers[better],
                    prompt=[{"role": "user", "content": f"What follows {number}?"}], b=answers[1 - better],
                    choice="b" if better else "a",
                ),
            )  # fmt: skip

    on_store(url, work)
