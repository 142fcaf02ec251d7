"""The passage of a text in which a search found its words."""

import re

from serve.api.schemas.conversations import Snippet
from serve.storage.tables import MessageRow

BEFORE, AFTER = 32, 96  # characters shown around the words: two lines of a narrow list


def snippet_of(message: MessageRow, query: str) -> Snippet | None:
    """Where `query` stands in a message, with what is around it; None where it does not.

    White space is run together, and the passage is cut at words, with an ellipsis where it is.
    """
    text = " ".join(message.content.split())
    found = re.search(re.escape(" ".join(query.split())), text, re.IGNORECASE)
    if found is None:
        return None
    before, after = text[: found.start()], text[found.end() :]
    if len(before) > BEFORE:
        before = "…" + (before[-BEFORE:].partition(" ")[2] or before[-BEFORE:])
    if len(after) > AFTER:
        after = (after[:AFTER].rpartition(" ")[0] or after[:AFTER]) + "…"
    return Snippet.model_validate(
        {"message_id": message.id, "role": message.role, "before": before, "hit": found.group(), "after": after}
    )
