"""What every way of writing down a generation has; chats, completions, responses and embeddings each have theirs."""

from abc import ABC, abstractmethod

from serve.generation.event_stream import EventStream
from serve.workers.messages import Embedded, Scored, Token


class Format(ABC):
    """The way a generation is written down: as one JSON body, or as the events of a stream."""

    @abstractmethod
    async def add_scores(self, scored: Scored) -> None:
        """Add log-probabilities of a prompt's tokens."""

    async def add_embedding(self, embedded: Embedded) -> None:  # noqa: B027  # not abstract
        """Add the embedding of a prompt; most formats have none."""

    @abstractmethod
    async def body(self) -> bytes:
        """Return the finished answer as JSON."""

    @abstractmethod
    def write_start(self, stream: EventStream) -> None:
        """Write what comes before the first token."""

    @abstractmethod
    async def write_token(self, stream: EventStream, token: Token) -> None:
        """Write one token."""

    @abstractmethod
    async def write_end(self, stream: EventStream) -> None:
        """Write what comes after the last token; the answer is stored by then."""
