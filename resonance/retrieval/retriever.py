"""One retrieval from the conversation to the numbered sources, within one deadline.

Decide, make the query, ask the provider, read the best pages, rank, pack. Whatever fails on the way, the
answer goes on: with less, with what was found an hour ago, or without sources and a sentence saying so.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from resonance.chat_template import Message
from resonance.errors import error_location
from resonance.retrieval.query_rewriting import standalone_query
from resonance.retrieval.ranking import Document, pack, rank
from resonance.retrieval.sanitize import neutralise
from resonance.retrieval.search_decision import decide
from resonance.retrieval.throttling import Found
from resonance.retrieval.types import Budget, Hit, Limits, ProviderError, RateLimited, Retrieved, Source, Timeout

_log = logging.getLogger("resonance.search")

# With fewer tokens than this a source has no room for its title and a sentence.
_SMALLEST_BUDGET = 24
# What a template adds to a prompt's words: for the whole, and for each earlier message.
_MARKUP, _MARKUP_OF_MESSAGE = 64, 8
# Seconds of the deadline kept for ranking and packing what was found.
_MARGIN = 0.15


class Finder(Protocol):
    """What finds hits for the retriever, fresh or from before."""

    @property
    def name(self) -> str:
        """The provider's name."""
        ...

    async def find(self, query: str, k: int, region: str, time_limit: str | None) -> Found:
        """Find hits; raises RateLimited, Timeout or Unavailable."""
        ...

    async def stale(self, query: str, k: int, region: str, time_limit: str | None) -> Found | None:
        """Older hits for the same query, or None."""
        ...

    def forget(self) -> None:
        """Delete what was found too long ago to be kept."""
        ...


class PageReader(Protocol):
    """What turns the best hits' addresses into their article text."""

    async def read(self, urls: Sequence[str], *, deadline: float) -> dict[str, str]:
        """The texts that could be read within `deadline` seconds, by address; never raises for a page."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """What is asked of the provider: how many hits, which region and time, and when a search is due."""

    max_results: int = 8
    region: str = "us-en"
    time_limit: str | None = None
    when: Literal["auto", "always"] = "auto"
    eager: bool = False
    pages: int = 0


class Retriever:
    """Retrieval for a conversation; used from one event loop at a time.

    Args:
        finder: where hits come from.
        pages: reads the best hits' pages, or None for snippets alone.
        scope: what is asked, and when.
        budget: how much the sources may take.
        limits: the times that are kept.
    """

    def __init__(
        self, finder: Finder, *, pages: PageReader | None, scope: Scope, budget: Budget, limits: Limits
    ) -> None:
        self._finder = finder
        self._pages = pages
        self._scope = scope
        self._budget = budget
        self._limits = limits

    @property
    def provider(self) -> str:
        """The provider's name, as /health shows it."""
        return self._finder.name

    @property
    def always(self) -> bool:
        """Whether the configuration wants a search for every message."""
        return self._scope.when == "always"

    def forget(self) -> None:
        """Delete what was found too long ago to be kept."""
        self._finder.forget()

    def room(self, messages: Sequence[Message], prompt_tokens: int, count_tokens: Callable[[str], int]) -> int:
        """How many tokens sources may take of a prompt of at most `prompt_tokens`.

        The newest message and the system prompt stay whole. Earlier turns keep up to `budget.history_tokens`; where
        that and the sources do not both fit, they share what is left in the proportion of their most.
        """
        *earlier, newest = messages
        left = prompt_tokens - _MARKUP - count_tokens(newest.content)
        if earlier and earlier[0].role == "system":
            left -= count_tokens(earlier.pop(0).content)
        most, history = self._budget.history_tokens, 0
        for message in reversed(earlier):
            history += count_tokens(message.content) + _MARKUP_OF_MESSAGE
            if history >= most:
                history = most
                break
        shared = left * self._budget.max_tokens // (self._budget.max_tokens + most)
        return max(0, min(self._budget.max_tokens, left, max(left - history, shared)))

    async def retrieve(
        self,
        messages: Sequence[Message],
        *,
        budget_tokens: int,
        count_tokens: Callable[[str], int],
        query: str | None = None,
        always: bool | None = None,
    ) -> Retrieved:
        """Find sources for the newest user message; never raises for what a provider or a page does.

        Args:
            messages: the conversation, the newest user message last among the user's.
            budget_tokens: how many tokens are left for the context; the configured most still holds.
            count_tokens: how many tokens a text takes in the prompt.
            query: search for this instead of what the conversation makes of it.
            always: search whatever the message says, or only where it asks for it; None as configured.
        """
        reason = "the query was given"
        if query is None:
            decision = decide(messages, eager=self._scope.eager)
            reason = decision.reason
            if not (decision.search or (self.always if always is None else always)):
                return Retrieved("", self.provider, reason=reason, searched=False)
            query = standalone_query(messages)
        if not query.strip():
            return Retrieved("", self.provider, reason="nothing is asked", searched=False)
        budget_tokens = min(budget_tokens, self._budget.max_tokens)
        outcome = Retrieved(query, self.provider, reason=reason)
        if budget_tokens < _SMALLEST_BUDGET:
            return replace(outcome, note="The conversation leaves no room for sources.")
        return await self._within_deadline(outcome, budget_tokens, count_tokens)

    async def _within_deadline(
        self, outcome: Retrieved, budget_tokens: int, count_tokens: Callable[[str], int]
    ) -> Retrieved:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._limits.deadline
        found, note = await self._hits(outcome.query)
        if found is None:
            return replace(outcome, note=note)
        if not found.hits:
            return replace(outcome, note="The search found nothing.")
        texts: dict[str, str] = {}
        left = ends - loop.time() - _MARGIN
        if self._pages is not None and self._scope.pages > 0 and left > 0:
            urls = [hit.url for hit in found.hits[: self._scope.pages]]
            texts = await self._pages.read(urls, deadline=left)
        sources, context = await asyncio.to_thread(
            self._choose, outcome.query, found.hits, texts, budget_tokens, count_tokens
        )
        if not sources:
            note = "The search found nothing that fits the question."
        return replace(outcome, sources=tuple(sources), context=context, note=note)

    async def _hits(self, query: str) -> tuple[Found | None, str | None]:
        """Fresh hits, else old ones with a note, else None with a note."""
        asked = (query, self._scope.max_results, self._scope.region, self._scope.time_limit)
        try:
            async with asyncio.timeout(self._limits.deadline - _MARGIN):
                return await self._finder.find(*asked), None
        except TimeoutError:
            why = f"took longer than {self._limits.deadline:g} s"
        except ProviderError as error:
            why = _why(error)
        except Exception as error:  # an index that is damaged, a page that a client cannot parse
            _log.error("A search failed: %s at %s", type(error).__name__, error_location(error))
            return None, "The search failed; this answer goes on without sources."
        stale = await self._finder.stale(*asked)
        if stale is not None and stale.hits:
            return stale, f"The search {why}; these sources are {_age(stale.age)} old."
        return None, f"The search {why}; this answer goes on without sources."

    def _choose(
        self,
        query: str,
        hits: Sequence[Hit],
        texts: dict[str, str],
        budget_tokens: int,
        count_tokens: Callable[[str], int],
    ) -> tuple[list[Source], str]:
        documents = [
            Document(title, hit.url, text, hit.rank)
            for hit in hits
            if (text := neutralise(f"{hit.snippet} {texts.get(hit.url, '')}"))
            and (title := neutralise(hit.title)[:120] or "Untitled")
        ]
        return pack(rank(query, documents, self._budget), budget_tokens, count_tokens)


def _why(error: ProviderError) -> str:
    if isinstance(error, RateLimited):
        return "was refused by the provider for now"
    if isinstance(error, Timeout):
        return "took too long"
    return "cannot be reached"


def _age(seconds: float) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "less than a minute"
