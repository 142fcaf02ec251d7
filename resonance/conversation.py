"""A conversation with a model: what was said, what of it fits into the window, and what a search adds to a question.

It knows messages and how an answer is made of them, and nothing of terminals. Whoever searches is given to it.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from resonance.chat_template import ChatTemplate, Message, Window
from resonance.engine import Engine, SamplingParams
from resonance.errors import ResonanceError

Mode = Literal["on", "off", "auto"]  # a search for every message, for none, where a message asks for one
MODES: tuple[Mode, ...] = ("on", "off", "auto")


class DialogueError(ResonanceError):
    """What is asked of a conversation cannot be done."""


class Source(Protocol):
    """What an answer may draw on; `id` is the number that citations use."""

    @property
    def id(self) -> int: ...
    @property
    def title(self) -> str: ...
    @property
    def url(self) -> str: ...


class Retrieved(Protocol):
    """What a search brought: `context` is for the prompt; `note` says to the reader what did not go as it should."""

    @property
    def query(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def sources(self) -> Sequence[Source]: ...
    @property
    def context(self) -> str: ...
    @property
    def note(self) -> str | None: ...


class Filter(Protocol):
    """What lets an answer's text pass and takes out the citations that lead nowhere."""

    def feed(self, text: str) -> str: ...
    def flush(self) -> str: ...


class Found(Protocol):
    """The outcome of a search, as one answer uses it."""

    @property
    def retrieved(self) -> Retrieved: ...
    def filter(self) -> Filter: ...
    def supporting(self, answer: str) -> Collection[int]:
        """The sources that hold a sentence of the answer."""
        ...


class Search(Protocol):
    """Where sources come from; `always` says that every message is to be searched for."""

    @property
    def provider(self) -> str: ...
    @property
    def always(self) -> bool: ...
    def find(
        self,
        messages: Sequence[Message],
        *,
        prompt_tokens: int,
        count_tokens: Callable[[str], int],
        always: bool,
        wanted: Callable[[], bool],
    ) -> Found | None:
        """Find sources for the newest message; None when none are due, or as soon as they are no longer `wanted`."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """How an answer was made: tokens, seconds, how many older messages the model no longer saw, what was found."""

    text: str
    tokens: int
    seconds: float
    dropped: int
    finish_reason: str
    found: Found | None = None


class Conversation:
    """A dialogue with a model: what was said, and what of it still fits into the context window.

    `searching` says when `search` is asked for sources.
    """

    def __init__(
        self,
        engine: Engine,
        template: ChatTemplate,
        sampling: SamplingParams,
        window: Window,
        system: str | None = None,
        search: Search | None = None,
    ) -> None:
        self._engine, self._template, self._sampling = engine, template, sampling
        self.window = window
        self._answers = 0
        self.system = system
        self.search = search
        self.searching: Mode = "on" if search is not None and search.always else "auto"
        self.turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """Everything said so far, the system prompt first."""
        return ([Message("system", self.system)] if self.system else []) + self.turns

    def ask(self, text: str, show: Callable[[str], bool], tell: Callable[[Found], None] | None = None) -> Turn:
        """Answer a message; `show` gets each piece of text and says whether to go on.

        `tell` gets what a search found, before the answer begins. A stopped answer is kept as far as it goes. Raises
        ContextOverflow, and forgets the message, when it does not fit into the context window.
        """
        before = list(self.turns)
        self.turns.append(Message("user", text))
        try:
            return self._answer(show, tell)
        except ResonanceError:
            self.turns = before
            raise

    def retry(self, show: Callable[[str], bool], tell: Callable[[Found], None] | None = None) -> Turn:
        """Answer the newest message once more, in place of its last answer."""
        question = next((i for i in reversed(range(len(self.turns))) if self.turns[i].role == "user"), None)
        if question is None:
            raise DialogueError("There is no message to answer again; write one first.")
        text = self.turns[question].content
        del self.turns[question:]
        return self.ask(text, show, tell)

    def _answer(self, show: Callable[[str], bool], tell: Callable[[Found], None] | None) -> Turn:
        budget = self.window.prompt_budget(self._sampling.max_new_tokens)
        messages, found = self.messages, None
        if self.search is not None and self.searching != "off":
            found = self.search.find(
                messages,
                prompt_tokens=budget,
                count_tokens=lambda text: len(self._template.tokenizer.encode(text)),
                always=self.searching == "on",
                wanted=lambda: show(""),
            )
            if not show(""):
                return Turn("", 0, 0.0, 0, "cancelled")
        if found is not None:
            messages[-1] = replace(messages[-1], context=found.retrieved.context or None)
            if tell is not None:
                tell(found)
        return self._write(messages, budget, found, show)

    def _write(self, messages: list[Message], budget: int, found: Found | None, show: Callable[[str], bool]) -> Turn:
        history_budget = self.window.history_budget(self._sampling.max_new_tokens)
        fitted = self._template.fit(messages, budget=budget, history_budget=history_budget)
        room = self.window.context_length - len(fitted.prompt_ids)
        seed = self._sampling.seed
        params = replace(
            self._sampling,
            max_new_tokens=min(self._sampling.max_new_tokens, room),
            seed=None if seed is None else seed + self._answers,  # an answer of its own for each turn
        )
        self._answers += 1
        citations = None if found is None else found.filter()
        text, tokens, reason = "", 0, "cancelled"
        started = time.perf_counter()
        for piece in self._engine.stream(fitted.prompt_ids, params):
            tokens += piece.finish_reason != "stop"
            reason = piece.finish_reason or reason
            shown = piece.text if citations is None else citations.feed(piece.text)
            if citations is not None and piece.finish_reason:
                shown += citations.flush()
            text += shown
            if not show(shown):
                break  # the engine cancels what nobody listens to
        if text.strip():
            self.turns.append(Message("assistant", text.strip()))
        return Turn(text, tokens, time.perf_counter() - started, fitted.dropped, reason, found)
