"""One retrieval, from a conversation to numbered sources, within one deadline.

The steps: decide, rewrite the query, call the provider, fetch the best pages, rank, pack. A failure never ends the
answer, which continues with fewer sources, with cached ones, or with none and a problem that says so.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from resonance.chat_template import Message
from resonance.errors import error_location
from resonance.retrieval.language_detection import document_language
from resonance.retrieval.query_rewriting import standalone_query
from resonance.retrieval.ranking import Document, pack, rank
from resonance.retrieval.reasons import Problem, ProblemCode, Reason
from resonance.retrieval.sanitize import clean
from resonance.retrieval.search_decision import Decision, decide
from resonance.retrieval.throttling import DirectProvider, ThrottledProvider
from resonance.retrieval.types import (
    Budget,
    Hit,
    Kind,
    Limits,
    ProviderError,
    RateLimited,
    Retrieved,
    SearchResults,
    Source,
    Timeout,
)

if TYPE_CHECKING:
    from resonance.retrieval.fetch import Pages

_log = logging.getLogger("resonance.search")

_SMALLEST_BUDGET = 24  # tokens: below this a source cannot hold its title and a sentence
_TEMPLATE_TOKENS, _TEMPLATE_TOKENS_PER_MESSAGE = 64, 8  # what a chat template adds to a prompt
_MARGIN = 0.15  # seconds of the deadline reserved for ranking and packing
_POLL_SECONDS = 0.05  # between two calls of `should_continue`


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The request to the provider (hits, region, time), the pages to fetch, and when to search."""

    max_results: int = 8
    region: str = "us-en"
    time_limit: str | None = None
    when: Literal["auto", "always"] = "auto"
    eager: bool = False
    pages: int = 0


class Retriever:
    """Retrieval for a conversation; for use from one event loop at a time.

    Args:
        provider: the search engine.
        pages: fetches the best hits' pages, or None for snippets alone.
        options: the request to the provider, and when to search.
        budget: token budgets of sources and history.
        limits: time limits.
        documents: searched beside `provider`, which is the web then; its sources are ranked with those of the web.
    """

    def __init__(
        self,
        provider: ThrottledProvider | DirectProvider,
        *,
        pages: "Pages | None",
        options: SearchOptions,
        budget: Budget,
        limits: Limits,
        documents: DirectProvider | None = None,
    ) -> None:
        self._providers: dict[Kind, ThrottledProvider | DirectProvider] = {_kind(provider): provider}
        if documents is not None:
            self._providers["document"] = documents
        self._pages = pages
        self._options = options
        self._budget = budget
        self._limits = limits

    @property
    def provider(self) -> str:
        """The provider's name, or the names of both."""
        return ", ".join(provider.name for provider in self._providers.values())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What can be searched."""
        return tuple(self._providers)

    @property
    def always(self) -> bool:
        """Whether the configuration asks for a search for every message."""
        return self._options.when == "always"

    def forget(self) -> None:
        """Delete cached results that are older than the retention time."""
        for provider in self._providers.values():
            provider.forget()

    def context_budget(
        self, messages: Sequence[Message], prompt_tokens: int, count_tokens: Callable[[str], int]
    ) -> int:
        """The token budget of sources in a prompt of at most `prompt_tokens` tokens.

        The newest message and the system prompt are kept whole. Earlier turns get up to `budget.history_tokens`; if
        these and the sources do not both fit, they share the remaining tokens in proportion to their maxima.
        """
        *earlier, newest = messages
        left = prompt_tokens - _TEMPLATE_TOKENS - count_tokens(newest.content)
        if earlier and earlier[0].role == "system":
            left -= count_tokens(earlier.pop(0).content)
        most, history = self._budget.history_tokens, 0
        for message in reversed(earlier):
            history += count_tokens(message.content) + _TEMPLATE_TOKENS_PER_MESSAGE
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
        kinds: Collection[Kind] | None = None,
    ) -> Retrieved:
        """Find sources for the newest user message. Failures of a provider or a page are never raised.

        Args:
            messages: the conversation.
            budget_tokens: tokens left for the context; the configured maximum applies too.
            count_tokens: the number of tokens of a text.
            query: search for this instead of a query made from the conversation.
            always: search for every message (True), or only when the message calls for it (False); None as configured.
            kinds: search these alone; None: all that there are.
        """
        providers: dict[Kind, ThrottledProvider | DirectProvider] = {
            kind: each for kind, each in self._providers.items() if kinds is None or kind in kinds
        }
        names = ", ".join(provider.name for provider in providers.values()) or self.provider
        why = Reason("query_given")
        if query is None:
            due, why = self._due(messages, list(providers))
            if not (self.always if always is None else always):
                providers = {kind: provider for kind, provider in providers.items() if kind in due}
            if not providers:
                return Retrieved("", names, why=why, searched=False)
            query = standalone_query(messages)
        if not query.strip():
            return Retrieved("", names, why=Reason("empty"), searched=False)
        budget_tokens = min(budget_tokens, self._budget.max_tokens)
        outcome = Retrieved(query, ", ".join(provider.name for provider in providers.values()), why=why)
        if budget_tokens < _SMALLEST_BUDGET:
            return replace(outcome, problem=Problem("no_room"))
        return await self._within_deadline(outcome, list(providers.values()), budget_tokens, count_tokens)

    def _due(self, messages: Sequence[Message], kinds: Sequence[Kind]) -> tuple[list[Kind], Reason]:
        """What the newest message is worth searching for, and the reason; documents are searched for any question."""
        decisions: dict[Kind, Decision] = {
            kind: decide(messages, eager=self._options.eager or (kind == "document" and len(self._providers) > 1))
            for kind in kinds
        }
        due: list[Kind] = [kind for kind in kinds if decisions[kind].search]
        reasons = [decisions[kind].why for kind in (*due, *kinds)]
        return due, reasons[0] if reasons else Reason("empty")

    async def _within_deadline(
        self,
        outcome: Retrieved,
        providers: "Sequence[ThrottledProvider | DirectProvider]",
        budget_tokens: int,
        count_tokens: Callable[[str], int],
    ) -> Retrieved:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._limits.deadline
        found = await asyncio.gather(*(self._hits(provider, outcome.query) for provider in providers))
        problem = next((problem for _, problem in found if problem is not None), None)
        if all(results is None for results, _ in found):
            return replace(outcome, problem=problem)
        hits = [hit for results, _ in found if results is not None for hit in results.hits]
        if not hits:
            return replace(outcome, problem=problem or Problem("no_results"))
        if problem is not None and any(results is None for results, _ in found):
            answered = next(each for each, (results, _) in zip(providers, found, strict=True) if results is not None)
            problem = Problem(problem.code, answered=answered.name)
        texts: dict[str, str] = {}
        left = ends - loop.time() - _MARGIN
        urls = [hit.url for hit in hits if hit.kind == "web"][: self._options.pages]
        if self._pages is not None and urls and left > 0:
            texts = await self._pages.read(urls, deadline=left)
        sources, context = await asyncio.to_thread(
            self._select_sources, outcome.query, hits, texts, budget_tokens, count_tokens
        )
        if not sources:
            problem = Problem("no_match")
        return replace(outcome, sources=tuple(sources), context=context, problem=problem)

    async def _hits(
        self, provider: ThrottledProvider | DirectProvider, query: str
    ) -> tuple[SearchResults | None, Problem | None]:
        """Fresh hits, else cached ones with a problem, else None with a problem."""
        request = (query, self._options.max_results, self._options.region, self._options.time_limit)
        try:
            async with asyncio.timeout(self._limits.deadline - _MARGIN):
                return await provider.find(*request), None
        except TimeoutError:
            problem = Problem("timeout", limit_s=self._limits.deadline)
        except ProviderError as error:
            problem = Problem(_code(error))
        except Exception as error:  # a damaged index, a response that the client cannot parse
            _log.error("A search failed: %s at %s", type(error).__name__, error_location(error))
            return None, Problem("failed")
        stale = await provider.stale(*request)
        if stale is not None and stale.hits:
            return stale, replace(problem, age_s=stale.age)
        return None, problem

    def _select_sources(
        self,
        query: str,
        hits: Sequence[Hit],
        texts: dict[str, str],
        budget_tokens: int,
        count_tokens: Callable[[str], int],
    ) -> tuple[list[Source], str]:
        documents = [
            Document(title, hit.url, text, hit.rank, document_language(text))
            for hit in hits
            if (text := clean(f"{hit.snippet} {texts.get(hit.url, '')}"))
            and (title := clean(hit.title)[:120] or "Untitled")
        ]
        return pack(rank(query, documents, self._budget), budget_tokens, count_tokens)


class BlockingRetriever:
    """A retriever for programs without an event loop: it runs on an event loop in a thread of its own."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="search", daemon=True).start()

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._retriever.provider

    @property
    def always(self) -> bool:
        """Whether the configuration asks for a search for every message."""
        return self._retriever.always

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What can be searched."""
        return self._retriever.kinds

    def retrieve(
        self,
        messages: Sequence[Message],
        *,
        prompt_tokens: int,
        count_tokens: Callable[[str], int],
        always: bool,
        should_continue: Callable[[], bool],
        kinds: Collection[Kind] | None = None,
    ) -> Retrieved | None:
        """Find sources for the newest message; None when no search is due, or once `should_continue` is false.

        Args:
            messages: the conversation, the user's newest message last.
            prompt_tokens: the maximum length of the whole prompt.
            count_tokens: the number of tokens of a text.
            always: search for every message; else only when the message calls for it.
            should_continue: polled many times a second.
            kinds: search these alone; None: all that there are.
        """
        budget = self._retriever.context_budget(messages, prompt_tokens, count_tokens)
        search = self._retriever.retrieve(
            messages, budget_tokens=budget, count_tokens=count_tokens, always=always, kinds=kinds
        )
        task = asyncio.run_coroutine_threadsafe(search, self._loop)
        try:
            while not task.done():
                wait([task], timeout=_POLL_SECONDS)
                if not should_continue():
                    return None
            retrieved = task.result()
        finally:
            task.cancel()
        return retrieved if retrieved.searched else None


def _kind(provider: ThrottledProvider | DirectProvider) -> Kind:
    return "document" if provider.name == "documents" else "web"


def _code(error: ProviderError) -> ProblemCode:
    if isinstance(error, RateLimited):
        return "rate_limited"
    return "timeout" if isinstance(error, Timeout) else "unreachable"
