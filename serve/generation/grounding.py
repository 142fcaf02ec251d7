"""An answer's sources: the search for them, and which of its sentences each of them supports."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from resonance.chat_template import Message
from resonance.retrieval.citations import CitationFilter, align
from resonance.retrieval.types import Retrieved
from serve.api.schemas.requests import ChatRequest, SearchQuery
from serve.api.schemas.responses import Citations, Sentence, Source, Sources
from serve.api.service import Service
from serve.models.served_model import ServedModel

if TYPE_CHECKING:
    from resonance.retrieval.retriever import Retriever


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
    service: Service, model: ServedModel, body: ChatRequest, messages: Sequence[Message], max_new_tokens: int
) -> Grounding | Unsearched | None:
    """Search for the newest message, within the prompt's token budget; returns None where search is off."""
    retriever: Retriever | None = service.retriever
    if retriever is None or body.search is False:
        return None
    retrieved = await retriever.retrieve(
        messages,
        budget_tokens=retriever.context_budget(messages, model.prompt_budget(max_new_tokens), model.count_tokens),
        count_tokens=model.count_tokens,
        query=body.search.query if isinstance(body.search, SearchQuery) else None,
        always=True if body.search else None,
    )
    if not retrieved.searched:
        return Unsearched(retrieved.reason)
    service.metrics.searches.labels("found" if retrieved.sources else "nothing").inc()
    return Grounding(retrieved)
