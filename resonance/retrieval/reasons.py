"""Why there was a search, or none, and what went wrong with one: stable codes, and sentences made from them.

Programs compare the codes; the sentences are for people and may change.
"""

from dataclasses import dataclass
from typing import Literal, get_args

ReasonCode = Literal[
    "search_requested",
    "query_given",
    "changing_fact",
    "named_fact",
    "event_fact",
    "document_question",
    "empty",
    "own_text",
    "small_talk",
    "assistant",
    "code",
    "calculation",
    "given_words",
    "no_fact",
]
ProblemCode = Literal["no_room", "no_results", "no_match", "rate_limited", "timeout", "unreachable", "failed"]

REASON_CODES: tuple[ReasonCode, ...] = get_args(ReasonCode)
PROBLEM_CODES: tuple[ProblemCode, ...] = get_args(ProblemCode)

_REASONS: dict[ReasonCode, str] = {
    "search_requested": "a search is asked for",
    "query_given": "the query was given",
    "changing_fact": "asks for something that changes ({subject})",
    "named_fact": "asks for a fact about {subject}",
    "event_fact": "asks who, when or where something was",
    "document_question": "a question that the documents may answer",
    "empty": "nothing is asked",
    "own_text": "the message brings its own text",
    "small_talk": "small talk",
    "assistant": "about the assistant itself",
    "code": "about code",
    "calculation": "a calculation",
    "given_words": "works on words or text that it already has",
    "no_fact": "nothing in it asks for facts that change or about a named thing",
}
_NOTHING_FOUND: dict[ProblemCode, str] = {
    "no_room": "The conversation leaves no room for sources.",
    "no_results": "The search found nothing.",
    "no_match": "The search found nothing that fits the question.",
}
_FAILURES: dict[ProblemCode, str] = {
    "rate_limited": "was refused by the provider for now",
    "timeout": "took too long",
    "unreachable": "cannot be reached",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a message was searched for, or was not.

    `subject` is the name or the word of the message that decided, where there is one. `follows` says that the message
    only goes on from an earlier one, which the code is about.
    """

    code: ReasonCode
    subject: str | None = None
    follows: bool = False
    searched: bool = True

    def sentence(self) -> str:
        """The reason in words for the user."""
        words = _REASONS[self.code].format(subject=self.subject)
        if not self.follows:
            return words
        return f"follows: {words}" if self.searched else f"follows a message that needs no search ({words})"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why sources are missing, old, or from one of two searches alone.

    `age_s` is the age in seconds of the cached results that were used instead, `answered` the provider that did
    answer, `limit_s` the time limit that passed.
    """

    code: ProblemCode
    age_s: float | None = None
    answered: str | None = None
    limit_s: float | None = None

    def sentence(self) -> str:
        """The problem in words for the user."""
        if self.code in _NOTHING_FOUND:
            return _NOTHING_FOUND[self.code]
        if self.answered is not None:
            return f"A part of the search failed; these sources are from {self.answered} alone."
        why = _FAILURES[self.code] if self.limit_s is None else f"took longer than {self.limit_s:g} s"
        if self.age_s is not None:
            return f"The search {why}; these sources are {_age(self.age_s)} old."
        return f"The search {why}; this answer goes on without sources."


def _age(seconds: float) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "less than a minute"
