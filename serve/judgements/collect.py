"""Collects an owner's judgements from the store: corrections, ratings, rated siblings, and votes in comparisons."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime

from serve.api.feedback import as_vote
from serve.api.schemas.feedback import Vote
from serve.api.training_data import branch_of, corrections_of, examples_of, preference_of, turns_of
from serve.judgements.judgement import Judgement, normalised
from serve.storage import votes
from serve.storage.import_export import export_batches
from serve.storage.store import Store
from serve.storage.tables import MessageRow, VoteRow

VOTES_PAGE = 100


async def collect(store: Store, owner: str) -> AsyncIterator[Judgement]:
    """Yield all judgements of an owner. Raises StoreUnavailable."""
    async for batch in export_batches(store, owner):
        for _, messages in batch:
            for judgement in judgements_of(messages):
                yield judgement
    async for row in vote_rows(store, owner):
        if row.choice != "tie":
            yield _compared(owner, row.conversation_id, as_vote(row))


async def vote_rows(store: Store, owner: str) -> AsyncIterator[VoteRow]:
    """Yield all votes of an owner, ties included, newest first. Raises StoreUnavailable."""
    after, more = None, True
    while more:
        rows, more = await votes.votes(store, owner, limit=VOTES_PAGE, after=after)
        for row in rows:
            after = row.id
            yield row


def judgements_of(messages: Sequence[MessageRow]) -> Iterator[Judgement]:
    """The judgements in one conversation."""
    by_id = {message.id: message for message in messages}
    for example in examples_of(messages, "rated"):
        end = by_id[example.message]
        origin = "correction" if example.corrected else "approval"
        yield Judgement(
            "example", origin, end.owner, end.id, end.conversation_id, _when(end), end.model, example.messages
        )
    for preference in corrections_of(messages):
        end = by_id[preference.id]
        if not _is_corrected(end):
            continue
        yield Judgement(
            "pair",
            "correction",
            end.owner,
            end.id,
            end.conversation_id,
            _when(end),
            end.model,
            preference.messages,
            rejected=end.content,
        )
    for message in messages:
        if message.role == "assistant" and message.rating is not None:
            yield _rated(message, by_id)
    yield from _siblings(messages, by_id)


def _rated(message: MessageRow, by_id: dict[str, MessageRow]) -> Judgement:
    """The thumb on the model's own answer; a correction is a thumb down for it."""
    good = not _is_corrected(message) and (message.rating == 1 or bool(message.correction))
    turns = turns_of(branch_of(message, by_id))
    turns[-1] = turns[-1].model_copy(update={"content": message.content})
    return Judgement(
        "vote",
        "approval" if good else "rejection",
        message.owner,
        message.id,
        message.conversation_id,
        _when(message),
        message.model,
        turns,
        good=good,
    )


def _siblings(messages: Sequence[MessageRow], by_id: dict[str, MessageRow]) -> Iterator[Judgement]:
    """Pairs of answers to the same question of which one has a thumb up and the other a thumb down."""
    of_question: defaultdict[str, list[MessageRow]] = defaultdict(list)
    for message in messages:
        if message.role == "assistant" and message.rating is not None and not message.correction and message.parent_id:
            of_question[message.parent_id].append(message)
    for answers in of_question.values():
        worse = [answer for answer in answers if answer.rating == -1]
        for better in (answer for answer in answers if answer.rating == 1):
            for bad in worse:
                yield Judgement(
                    "pair",
                    "siblings",
                    better.owner,
                    better.id,
                    better.conversation_id,
                    max(_when(better), _when(bad)),
                    bad.model,
                    turns_of(branch_of(better, by_id)),
                    rejected=bad.content,
                )


def _compared(owner: str, conversation: str | None, vote: Vote) -> Judgement:
    preference = preference_of(vote)
    return Judgement(
        "pair",
        "compare",
        owner,
        vote.id,
        conversation,
        _utc(vote.created_at),
        preference.rejected_by.model,
        preference.messages,
        rejected=preference.rejected[0].content,
    )


def _is_corrected(message: MessageRow) -> bool:
    """Whether a correction says anything else than the answer; one that does not approves of it."""
    return bool(message.correction) and normalised(message.correction or "") != normalised(message.content)


def _when(message: MessageRow) -> datetime:
    return _utc(message.judged_at or message.created_at)


def _utc(moment: datetime) -> datetime:
    """SQLite gives times without their zone, which is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
