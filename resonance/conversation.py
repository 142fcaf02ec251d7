"""A conversation with an engine: message history, context window and retrieval. `resonance chat` is built on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from resonance.chat_template import ChatTemplate, Message, Window
from resonance.engine import Engine, SamplingParams
from resonance.errors import ResonanceError
from resonance.retrieval.citations import CitationFilter
from resonance.retrieval.retriever import BlockingRetriever
from resonance.retrieval.types import Kind, Retrieved

SearchMode = Literal["on", "off", "auto"]  # search for every message, for none, or when a message calls for it
SEARCH_MODES: tuple[SearchMode, ...] = ("on", "off", "auto")


class ConversationError(ResonanceError):
    """The conversation cannot do what was requested."""


@dataclass(frozen=True, slots=True)
class Turn:
    """An answer, its tokens and seconds, how many old messages did not fit into the window, and its retrieval."""

    text: str
    tokens: int
    seconds: float
    dropped: int
    finish_reason: str
    retrieved: Retrieved | None = None


class Conversation:
    """A conversation of which the newest turns are kept within the context window.

    Args:
        engine: generates the answers.
        template: turns messages into token ids.
        sampling: parameters of every answer; turn n uses `seed + n`.
        window: limits of prompts and history.
        system: the system prompt.
        retriever: finds sources for messages, as `search_mode` says, in `search_kinds` (None: in all that it has).
    """

    def __init__(
        self,
        engine: Engine,
        template: ChatTemplate,
        sampling: SamplingParams,
        window: Window,
        system: str | None = None,
        retriever: BlockingRetriever | None = None,
    ) -> None:
        self._engine, self._template, self._sampling = engine, template, sampling
        self.window = window
        self._answers = 0
        self.system = system
        self.retriever = retriever
        self.search_kinds: tuple[Kind, ...] | None = None
        self.search_mode: SearchMode = "on" if retriever is not None and retriever.always else "auto"
        self.turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """All messages, the system prompt first."""
        return ([Message("system", self.system)] if self.system else []) + self.turns

    def ask(
        self, text: str, on_text: Callable[[str], bool], on_retrieved: Callable[[Retrieved], None] | None = None
    ) -> Turn:
        """Answer a message.

        Args:
            text: the user's message.
            on_text: called with each piece of the answer; returns whether to continue. A stopped answer is kept.
            on_retrieved: called with the retrieval before the answer starts, if there was one.

        Raises ContextOverflow, and drops the message, if it does not fit into the context window.
        """
        before = list(self.turns)
        self.turns.append(Message("user", text))
        try:
            return self._answer(on_text, on_retrieved)
        except ResonanceError:
            self.turns = before
            raise

    def retry(self, on_text: Callable[[str], bool], on_retrieved: Callable[[Retrieved], None] | None = None) -> Turn:
        """Answer the newest message again, replacing its last answer."""
        question = next((i for i in reversed(range(len(self.turns))) if self.turns[i].role == "user"), None)
        if question is None:
            raise ConversationError("There is no message to answer again; write one first.")
        text = self.turns[question].content
        del self.turns[question:]
        return self.ask(text, on_text, on_retrieved)

    def _answer(self, on_text: Callable[[str], bool], on_retrieved: Callable[[Retrieved], None] | None) -> Turn:
        budget = self.window.prompt_budget(self._sampling.max_new_tokens)
        messages, retrieved = self.messages, None
        if self.retriever is not None and self.search_mode != "off":
            retrieved = self.retriever.retrieve(
                messages,
                prompt_tokens=budget,
                count_tokens=lambda text: len(self._template.tokenizer.encode(text)),
                always=self.search_mode == "on",
                kinds=self.search_kinds,
                should_continue=lambda: on_text(""),
            )
            if not on_text(""):
                return Turn("", 0, 0.0, 0, "cancelled")
        if retrieved is not None:
            messages[-1] = replace(messages[-1], context=retrieved.context or None)
            if on_retrieved is not None:
                on_retrieved(retrieved)
        return self._generate(messages, budget, retrieved, on_text)

    def _generate(
        self, messages: list[Message], budget: int, retrieved: Retrieved | None, on_text: Callable[[str], bool]
    ) -> Turn:
        history_budget = self.window.history_budget(self._sampling.max_new_tokens)
        fitted = self._template.fit(messages, budget=budget, history_budget=history_budget)
        free = self.window.context_length - len(fitted.prompt_ids)
        seed = self._sampling.seed
        params = replace(
            self._sampling,
            max_new_tokens=min(self._sampling.max_new_tokens, free),
            seed=None if seed is None else seed + self._answers,
        )
        self._answers += 1
        citations = CitationFilter(None if retrieved is None else retrieved.sources)
        text, tokens, reason = "", 0, "cancelled"
        started_at = time.perf_counter()
        for piece in self._engine.stream(fitted.prompt_ids, params):
            tokens += piece.finish_reason != "stop"
            reason = piece.finish_reason or reason
            filtered = citations.feed(piece.text) + (citations.flush() if piece.finish_reason else "")
            text += filtered
            if not on_text(filtered):
                break  # closing the stream cancels the request
        if text.strip():
            self.turns.append(Message("assistant", text.strip()))
        return Turn(text, tokens, time.perf_counter() - started_at, fitted.dropped, reason, retrieved)
