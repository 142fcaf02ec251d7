"""Training data from stored feedback: examples of approved answers, preferences from corrections and votes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from resonance.retrieval.types import Source
from serve.api.schemas.feedback import Contender, Example, ExampleTurn, Preference, Vote, VotedAnswer
from serve.storage.tables import MessageRow

Which = Literal["rated", "all"]
INCOMPLETE = ("cancelled", "error")  # finish reasons


def examples_of(messages: Sequence[MessageRow], which: Which) -> list[Example]:
    """The examples of a conversation, each a branch from its beginning to an answer.

    With `rated`, a branch ends at an answer that has a thumb up or a correction; with `all`, at any answer that is
    complete and has no thumb down. A correction replaces the model's answer. Training learns every answer of an
    example, so a branch starts anew after a bad or incomplete answer, and no branch is the prefix of another.
    """
    by_id = {message.id: message for message in messages}
    accepts = _is_approved if which == "rated" else _is_good
    branches = [branch_of(message, by_id) for message in messages if message.role == "assistant" and accepts(message)]
    branches = [branch for branch in branches if not _uses_tools(branch)]
    covered = {message.id for branch in branches for message in branch[:-1]}
    return [
        Example(
            messages=turns_of(branch),
            conversation=end.conversation_id,
            message=end.id,
            model=end.model,
            corrected=bool(end.correction),
        )
        for branch in branches
        if (end := branch[-1]).id not in covered
    ]


def corrections_of(messages: Sequence[MessageRow]) -> list[Preference]:
    """A preference for each corrected answer of a conversation: the correction over the model's answer."""
    by_id = {message.id: message for message in messages}
    found: list[Preference] = []
    for message in messages:
        if message.role != "assistant" or not message.correction:
            continue
        branch = branch_of(message, by_id)
        if _uses_tools(branch):
            continue
        *prompt, chosen = turns_of(branch)
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


def preference_of(vote: Vote) -> Preference:
    """The preference of a vote that is no tie."""
    better, worse = (vote.a, vote.b) if vote.choice == "a" else (vote.b, vote.a)
    prompt = [ExampleTurn(role=turn.role, content=turn.content) for turn in vote.prompt]
    chosen = ExampleTurn(role="assistant", content=better.content)
    return Preference(
        origin="vote",
        id=vote.id,
        created_at=vote.created_at,
        prompt=prompt,
        chosen=[chosen],
        rejected=[ExampleTurn(role="assistant", content=worse.content)],
        messages=[*prompt, chosen],
        chosen_by=_contender(better),
        rejected_by=_contender(worse),
    )


def _contender(answer: VotedAnswer) -> Contender:
    return Contender(model=answer.model, checkpoint=answer.checkpoint, settings=answer.settings)


def _is_approved(message: MessageRow) -> bool:
    return bool(message.correction) or message.rating == 1


def _is_good(message: MessageRow) -> bool:
    return _is_approved(message) or (message.rating is None and message.finish_reason not in INCOMPLETE)


def branch_of(end: MessageRow, by_id: Mapping[str, MessageRow]) -> list[MessageRow]:
    """The messages before an answer and the answer, back to the last bad answer; the system prompt is kept."""
    branch, system = [end], None
    good = True
    parent = by_id.get(end.parent_id or "")
    while parent is not None:
        if parent.role == "system":
            system = system or parent
        else:
            good = good and (parent.role == "user" or _is_good(parent))
            if good:
                branch.append(parent)
        parent = by_id.get(parent.parent_id or "")
    return ([] if system is None else [system]) + branch[::-1]


def _uses_tools(branch: Sequence[MessageRow]) -> bool:
    """Whether a branch has calls or their results: what the functions were is not stored with it."""
    return any(message.role == "tool" or message.tool_calls for message in branch)


def turns_of(branch: Sequence[MessageRow]) -> list[ExampleTurn]:
    """Messages as training reads them: with corrections in place of answers, and search results as context."""
    turns = [
        ExampleTurn.model_validate({"role": message.role, "content": message.correction or message.content})
        for message in branch
    ]
    for i, message in enumerate(branch):
        if message.sources and i and turns[i - 1].role == "user":
            turns[i - 1].context = _context(message.sources) or None
    return turns


def _context(sources: Mapping[str, Any]) -> str:
    """The search results as they stood in the prompt of an answer."""
    from resonance.retrieval.ranking import context_of  # its libraries are not needed by a server without search

    return context_of(
        [
            Source(found["id"], found["title"], found["url"], found.get("site") or found["url"], passage, 0.0)
            for found in sources["sources"]
            if (passage := found.get("passage"))
        ]
    )
