"""A stored answer with the messages that led to it, for commands of other rooms."""

from serve.storage.store import Store
from serve.storage.tables import MessageRow


class NoSuchAnswer(LookupError):
    """A conversation that has no answer, or not the one that was asked for."""


async def read_thread(store: Store, owner: str, conversation: str, message: str | None) -> list[MessageRow]:
    """The messages from the first to an answer, the last one by default; none where there is no such conversation.

    Messages of tools are left out. Raises NoSuchAnswer.
    """
    rows = await store.messages(owner, conversation)
    if not rows:
        return []
    answers = [row for row in rows if row.role == "assistant" and row.content and message in (None, row.id)]
    if not answers:
        raise NoSuchAnswer(f"no answer {message!r}" if message else "no answer")
    by_id = {row.id: row for row in rows}
    thread: list[MessageRow] = []
    row: MessageRow | None = answers[-1]
    while row is not None and row not in thread:
        thread.insert(0, row)
        row = by_id.get(row.parent_id) if row.parent_id else None
    return [row for row in thread if row.role != "tool" and row.content]
