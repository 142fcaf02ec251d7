"""Stored conversations as training data: what readers approved of, and what they would have had instead.

It knows stored messages and the forms of training data, and nothing of HTTP.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from resonance.retrieval.types import Source
from serve.api.schemas.feedback import Contender, Example, ExampleTurn, Preference
from serve.storage.tables import MessageRow

Which = Literal["rated", "all"]
UNFINISHED = ("cancelled", "error")


def examples_of(messages: Sequence[MessageRow], which: Which) -> list[Example]:
    """The examples that a conversation holds, each a branch from its beginning to an answer.

    With `rated`, branches end at an answer that has a thumb up or a correction; with `all`, at any that is complete
    and has no thumb down. Corrections stand in the place of what the model said. Training learns every answer of an
    example, so one begins anew behind an answer that is bad or was broken off, and none is the beginning of another.
    """
    by_id = {message.id: message for message in messages}
    wanted = _is_approved if which == "rated" else _is_good
    branches = [_branch(message, by_id) for message in messages if message.role == "assistant" and wanted(message)]
    covered = {message.id for branch in branches for message in branch[:-1]}
    return [
        Example(
            messages=_turns(branch),
            conversation=end.conversation_id,
            message=end.id,
            model=end.model,
            corrected=bool(end.correction),
        )
        for branch in branches
        if (end := branch[-1]).id not in covered
    ]


def corrections_of(messages: Sequence[MessageRow]) -> list[Preference]:
    """Every corrected answer of a conversation: the correction is preferred to what the model said."""
    by_id = {message.id: message for message in messages}
    found: list[Preference] = []
    for message in messages:
        if message.role != "assistant" or not message.correction:
            continue
        *prompt, chosen = _turns(_branch(message, by_id))
        found.append(
            Preference(
                origin="correction",
                id=message.id,
                created_at=message.created_at,
                prompt=prompt,
                chosen=[chosen],
                rejected=[ExampleTurn(role="assistant", content=message.content)],
                messages=[*prompt, chosen],
                chosen_by=None,
                rejected_by=Contender(model=message.model),
            )
        )
    return found


def _is_approved(message: MessageRow) -> bool:
    return bool(message.correction) or message.rating == 1


def _is_good(message: MessageRow) -> bool:
    return _is_approved(message) or (message.rating is None and message.finish_reason not in UNFINISHED)


def _branch(end: MessageRow, by_id: Mapping[str, MessageRow]) -> list[MessageRow]:
    """The messages that lead to an answer, from the first or from behind the last bad answer; a system prompt stays."""
    branch, system = [end], None
    whole = True
    parent = by_id.get(end.parent_id or "")
    while parent is not None:
        if parent.role == "system":
            system = system or parent
        else:
            whole = whole and (parent.role == "user" or _is_good(parent))
            if whole:
                branch.append(parent)
        parent = by_id.get(parent.parent_id or "")
    return ([] if system is None else [system]) + branch[::-1]


def _turns(branch: Sequence[MessageRow]) -> list[ExampleTurn]:
    turns = [
        ExampleTurn.model_validate({"role": message.role, "content": message.correction or message.content})
        for message in branch
    ]
    for place, message in enumerate(branch):
        if message.sources and place and turns[place - 1].role == "user":
            turns[place - 1].context = _context(message.sources) or None
    return turns


def _context(sources: Mapping[str, Any]) -> str:
    """What stood in the prompt of an answer that drew on a search."""
    from resonance.retrieval.ranking import (
        context_of,  # ranking's libraries stay away from a server that searches nothing
    )

    return context_of(
        [
            Source(found["id"], found["title"], found["url"], found.get("site") or found["url"], passage, 0.0)
            for found in sources["sources"]
            if (passage := found.get("passage"))
        ]
    )
