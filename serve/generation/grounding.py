"""An answer's sources: the search for them, and which of its sentences each of them supports."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from resonance.chat_template import Message
from resonance.retrieval.citations import CitationFilter, align
from resonance.retrieval.reasons import Problem, Reason
from resonance.retrieval.types import Kind, Retrieved
from serve.api.auth import Caller
from serve.api.errors import store_errors
from serve.api.schemas.requests import ChatRequest, SearchQuery
from serve.api.schemas.responses import (
    Citations,
    NotSearched,
    SearchProblem,
    SearchReason,
    Sentence,
    Source,
    Sources,
)
from serve.api.service import Service
from serve.generation.source_selection import select_sources
from serve.models.served_model import ServedModel

if TYPE_CHECKING:
    from resonance.retrieval.retriever import Retriever


@dataclass(frozen=True, slots=True)
class Unsearched:
    """The reason why there was no search."""

    why: Reason

    def event(self) -> NotSearched:
        """The reason as a stream tells it."""
        return NotSearched(reason=self.why.sentence(), why=_reason(self.why))


@dataclass(frozen=True, slots=True)
class Grounding:
    """The search results that an answer uses."""

    retrieved: Retrieved

    def with_context(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with the search results in the newest one, which is the user's."""
        if not self.retrieved.context:
            return list(messages)
        return [*messages[:-1], replace(messages[-1], context=self.retrieved.context)]

    def filter(self) -> CitationFilter:
        """Return a filter that removes citations of unknown sources from one answer."""
        return CitationFilter(self.retrieved.sources)

    def sources(self, answer: str | None = None) -> Sources:
        """Return the search results; with the answer's text, also which of its sentences each source supports."""
        citations = None if answer is None else self.citations(answer)
        return Sources(
            query=self.retrieved.query,
            provider=self.retrieved.provider,
            reason=self.retrieved.reason or None,
            why=_reason(self.retrieved.why),
            note=self.retrieved.note,
            problem=_problem(self.retrieved.problem),
            sources=[
                Source(id=s.id, title=s.title, url=s.url, site=s.site, passage=s.passage, score=s.score, kind=s.kind)
                for s in self.retrieved.sources
            ],
            supports=None if citations is None else citations.supports,
            sentences=None if citations is None else citations.sentences,
        )

    def citations(self, answer: str, index: int = 0) -> Citations:
        """Compare each sentence of an answer with the sources."""
        aligned = align(answer, self.retrieved.sources)
        sentences = [
            Sentence(text=s.text, start=s.start, end=s.end, cited=list(s.cited), sources=list(s.sources))
            for s in aligned.sentences
        ]
        return Citations(index=index, supports=aligned.supports(), sentences=sentences)


def _reason(why: Reason | None) -> SearchReason | None:
    return None if why is None else SearchReason(code=why.code, subject=why.subject, follows=why.follows)


def _problem(problem: Problem | None) -> SearchProblem | None:
    if problem is None:
        return None
    return SearchProblem(code=problem.code, age_s=problem.age_s, answered=problem.answered)


async def ground(
    service: Service,
    caller: Caller,
    model: ServedModel,
    body: ChatRequest,
    messages: Sequence[Message],
    max_new_tokens: int,
    stored_sources: str | None,
) -> Grounding | Unsearched | None:
    """Search for the newest message in the caller's documents and with the server's search, within the prompt's budget.

    `stored_sources` is the conversation's choice of them. Returns None where both are off. Raises ApiError 503.
    """
    retriever: Retriever | None = service.retriever
    selection = select_sources(body, stored_sources, () if retriever is None else retriever.kinds)
    own = await _of_documents(service, caller, model, body, messages, max_new_tokens, selection.documents)
    if own is None:
        return await _of_search(service, model, body, messages, max_new_tokens, selection.kinds)
    used = model.count_tokens(own.context)
    found = await _of_search(service, model, body, messages, max_new_tokens + used, selection.kinds)
    if not isinstance(found, Grounding):
        return Grounding(own)
    return Grounding(_merged(own, found.retrieved))


def _merged(own: Retrieved, found: Retrieved) -> Retrieved:
    """The sources of both, those of the caller's documents first, numbered anew."""
    sources = tuple(replace(source, id=number) for number, source in enumerate((*own.sources, *found.sources), start=1))
    provider = ", ".join(dict.fromkeys((own.provider, found.provider)))
    problem = found.problem
    if problem is not None and not found.sources:  # but the documents have said something
        failed = problem.code not in ("no_room", "no_results", "no_match")
        problem = Problem(problem.code, answered=own.provider) if failed else None
    from resonance.retrieval.ranking import context_of  # its libraries are not needed without sources

    context = context_of(sources)
    return replace(found, provider=provider, sources=sources, context=context, why=own.why, problem=problem)


async def _of_documents(
    service: Service,
    caller: Caller,
    model: ServedModel,
    body: ChatRequest,
    messages: Sequence[Message],
    max_new_tokens: int,
    wanted: bool | None,
) -> Retrieved | None:
    """What the caller's documents say; None where they are not asked, or say nothing."""
    if wanted is False or (wanted is None and body.session_id is None):
        return None
    with store_errors():
        retrieved = await service.library.retrieve(
            caller.owner,
            body.session_id,
            messages,
            prompt_tokens=model.prompt_budget(max_new_tokens),
            count_tokens=model.count_tokens,
        )
    if retrieved is None or not retrieved.sources:
        return None
    service.metrics.searches.labels("found").inc()
    return retrieved


async def _of_search(
    service: Service,
    model: ServedModel,
    body: ChatRequest,
    messages: Sequence[Message],
    max_new_tokens: int,
    kinds: Sequence[Kind],
) -> Grounding | Unsearched | None:
    """What the server's search finds in these kinds, within the prompt's token budget; None where it is off."""
    retriever: Retriever | None = service.retriever
    if retriever is None or not kinds:
        return None
    asked = body.search if isinstance(body.search, SearchQuery) else None
    retrieved = await retriever.retrieve(
        messages,
        budget_tokens=retriever.context_budget(messages, model.prompt_budget(max_new_tokens), model.count_tokens),
        count_tokens=model.count_tokens,
        query=asked.query if asked is not None else None,
        always=_always(body.search),
        kinds=kinds,
    )
    if not retrieved.searched:
        return Unsearched(retrieved.why or Reason("empty"))
    service.metrics.searches.labels("found" if retrieved.sources else "nothing").inc()
    return Grounding(retrieved)


def _always(search: bool | SearchQuery | None) -> bool | None:
    """Whether a request asks for a search; None: as the server is configured."""
    if isinstance(search, SearchQuery):
        return search.when == "always"
    return True if search else None
