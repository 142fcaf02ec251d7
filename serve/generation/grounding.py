"""An answer's sources: the search for them, and which of its sentences each of them supports."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from resonance.chat_template import Message
from resonance.retrieval.citations import CitationFilter, align
from resonance.retrieval.types import Kind, Retrieved
from serve.api.auth import Caller
from serve.api.errors import store_errors
from serve.api.schemas.requests import ChatRequest, SearchQuery
from serve.api.schemas.responses import Citations, Sentence, Source, Sources
from serve.api.service import Service
from serve.models.served_model import ServedModel

if TYPE_CHECKING:
    from resonance.retrieval.retriever import Retriever


SOURCES: dict[Kind, Literal["web", "documents"]] = {
    "web": "web",
    "document": "documents",
}  # kinds as requests name them


@dataclass(frozen=True, slots=True)
class Unsearched:
    """The reason why there was no search."""

    reason: str


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
            note=self.retrieved.note,
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


async def ground(
    service: Service,
    caller: Caller,
    model: ServedModel,
    body: ChatRequest,
    messages: Sequence[Message],
    max_new_tokens: int,
) -> Grounding | Unsearched | None:
    """Search for the newest message in the caller's documents and with the server's search, within the prompt's budget.

    Returns None where both are off. Raises ApiError 503.
    """
    own = await _of_documents(service, caller, model, body, messages, max_new_tokens)
    if own is None:
        return await _of_search(service, model, body, messages, max_new_tokens)
    used = model.count_tokens(own.context)
    found = await _of_search(service, model, body, messages, max_new_tokens + used)
    if not isinstance(found, Grounding):
        return Grounding(own)
    return Grounding(_merged(own, found.retrieved))


def _merged(own: Retrieved, found: Retrieved) -> Retrieved:
    """The sources of both, those of the caller's documents first, numbered anew."""
    sources = tuple(replace(source, id=number) for number, source in enumerate((*own.sources, *found.sources), start=1))
    provider = ", ".join(dict.fromkeys((own.provider, found.provider)))
    note = found.note if found.sources else None  # the documents have said something
    from resonance.retrieval.ranking import context_of  # its libraries are not needed without sources

    context = context_of(sources)
    return replace(found, provider=provider, sources=sources, context=context, reason=own.reason, note=note)


async def _of_documents(
    service: Service,
    caller: Caller,
    model: ServedModel,
    body: ChatRequest,
    messages: Sequence[Message],
    max_new_tokens: int,
) -> Retrieved | None:
    """What the caller's documents say; None where they are not asked, or say nothing."""
    if body.documents is False or (body.documents is None and body.session_id is None):
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
    service: Service, model: ServedModel, body: ChatRequest, messages: Sequence[Message], max_new_tokens: int
) -> Grounding | Unsearched | None:
    """What the server's search finds, within the prompt's token budget; None where it is off."""
    retriever: Retriever | None = service.retriever
    if retriever is None or body.search is False:
        return None
    asked = body.search if isinstance(body.search, SearchQuery) else None
    retrieved = await retriever.retrieve(
        messages,
        budget_tokens=retriever.context_budget(messages, model.prompt_budget(max_new_tokens), model.count_tokens),
        count_tokens=model.count_tokens,
        query=asked.query if asked is not None else None,
        always=_always(body.search),
        kinds=None
        if asked is None or asked.sources is None
        else [k for k, name in SOURCES.items() if name in asked.sources],
    )
    if not retrieved.searched:
        return Unsearched(retrieved.reason)
    service.metrics.searches.labels("found" if retrieved.sources else "nothing").inc()
    return Grounding(retrieved)


def _always(search: bool | SearchQuery | None) -> bool | None:
    """Whether a request asks for a search; None: as the server is configured."""
    if isinstance(search, SearchQuery):
        return search.when == "always"
    return True if search else None
