"""Decides whether the newest message calls for a search, and gives the reason.

Messages that the model can handle alone (greetings, rewriting, arithmetic) are not searched; questions about named or
changing things are. The words come from the lexicon of the message's language. In a language without one, questions
that name something are searched.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from resonance.chat_template import Message
from resonance.retrieval.language import content, names, plain, quotes
from resonance.retrieval.lexicon import Lexicon, lexica, lexicon_of
from resonance.retrieval.query_rewriting import depends_on_context
from resonance.retrieval.reasons import Reason, ReasonCode

SMALL = 100  # characters of small talk, at most; on longer messages the pattern would backtrack too much


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to search, and why."""

    search: bool
    why: Reason

    @property
    def reason(self) -> str:
        """The reason in words for the user."""
        return self.why.sentence()


# The rest needs no language: code and sums.
_CODE = re.compile(
    r"```|^\s*(?:def|class|import|from \w+ import|function|const|let|var|public|#include|SELECT .* FROM)\b.*[({:;=]"
    r"|\bTraceback \(most recent|\b\w+\(\w*\)|[a-z]Error\b|Exception\b",
    re.S,
)
_PROGRAMMING = re.compile(
    r"\b(?:python|javascript|typescript|java|c\+\+|c#|rust|sql|bash|php|kotlin|git|regex|html|css|api|function|code)\b",
    re.I,
)
_SUM = re.compile(r"(?<![\w./-])\d[\d.,]*\s*(?:[+*/×÷^%=]|[-–−](?=\s)|x(?=\s*\d))\s*\(?\d?")
_GIVEN = re.compile(r"[:：]\s*\S|[\"“„«「]")
_MARK = re.compile(r"[?？؟;]\W*$")


def decide(messages: Sequence[Message], *, eager: bool = False) -> Decision:
    """Decide whether to search for the newest user message.

    `eager`, for local documents: search for every question that no rule excludes.
    """
    turns = [message for message in messages if message.role == "user"]
    if not turns or not turns[-1].content.strip():
        return Decision(False, Reason("empty"))
    if turns[-1].context is not None:
        return Decision(False, Reason("own_text"))
    lexicon = lexicon_of([turn.content for turn in turns])
    text = plain(turns[-1].content, lexicon)
    refused = None if asks_for_search(text) else _excluded(text, lexicon)
    if refused is not None:
        return Decision(False, Reason(refused))
    if (reason := _reason_to_search(text, lexicon, follows=len(turns) > 1)) is not None:
        return Decision(True, reason)
    if len(turns) > 1 and depends_on_context(text, lexicon):
        return _as_follow_up(text, messages, lexicon, eager)
    return _by_default(text, lexicon, eager)


def asks_for_search(text: str) -> bool:
    """Whether a message asks for a search in so many words, in any language that has a lexicon."""
    return any(one.match("explicit", text) for one in lexica())


def _by_default(text: str, lexicon: Lexicon, eager: bool) -> Decision:
    if eager and _asks(text, lexicon) and content(text, lexicon):
        return Decision(True, Reason("document_question"))
    return Decision(False, Reason("no_fact"))


def _excluded(text: str, lexicon: Lexicon) -> ReasonCode | None:
    """The reason not to search, else None."""
    reason: ReasonCode | None = None
    if len(text) <= SMALL and any(one.match("small_talk", text, "all") for one in lexica()):
        reason = "small_talk"
    elif lexicon.match("assistant", text):
        reason = "assistant"
    elif _CODE.search(text) or (
        _PROGRAMMING.search(text) and not lexicon.match("fresh", text) and not lexicon.match("asks", text)
    ):
        reason = "code"
    elif _SUM.search(text):
        reason = "calculation"
    elif (
        lexicon.match("work", text, "start" if lexicon.spaced else "anywhere")
        or lexicon.match("words", text)
        or (lexicon.match("edit", text, "start" if lexicon.spaced else "anywhere") and _GIVEN.search(text))
    ):
        reason = "given_words"
    return reason


def _reason_to_search(text: str, lexicon: Lexicon, *, follows: bool) -> Reason | None:
    """The reason to search, else None."""
    if asks_for_search(text):
        return Reason("search_requested")
    named = [*quotes(text), *names(text, lexicon)]
    about_oneself = lexicon.match(
        "self", text, "start" if lexicon.spaced else "anywhere"
    ) is not None and not _MARK.search(text)
    changing = None if about_oneself else lexicon.match("fresh", text)
    asks = lexicon.match("asks", text) is not None
    reason = None
    if changing is not None:
        reason = Reason("changing_fact", changing.group().strip().lower())
    elif named and (asks or _asks(text, lexicon)):
        reason = Reason("named_fact", named[0])
    elif asks and content(text, lexicon) and not (follows and depends_on_context(text, lexicon)):
        reason = Reason("event_fact")
    return reason


def _asks(text: str, lexicon: Lexicon) -> bool:
    if lexicon.spaced:
        return _MARK.search(text) is not None or lexicon.match("questions", text, "start") is not None
    return lexicon.match("questions", text) is not None


def _as_follow_up(text: str, messages: Sequence[Message], lexicon: Lexicon, eager: bool) -> Decision:
    """Decide on a follow-up: search if the message before it was searched for."""
    newest = max(index for index, message in enumerate(messages) if message.role == "user")
    earlier = decide(messages[max(0, newest - 12) : newest], eager=eager)
    if earlier.search:
        return Decision(True, replace(earlier.why, follows=True))
    if eager and _asks(text, lexicon) and earlier.why != Reason("small_talk"):
        return Decision(True, Reason("document_question"))
    return Decision(False, replace(earlier.why, follows=True, searched=False))
