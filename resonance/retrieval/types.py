"""The types that the parts of retrieval share: hits, sources, the provider's protocol and its errors."""

from dataclasses import dataclass
from typing import Literal, Protocol

from resonance.errors import ResonanceError
from resonance.retrieval.reasons import Problem, Reason

# Whose text a source is: anybody's on the web, or a document of the owner.
Kind = Literal["web", "document"]


def kind_of(url: str) -> Kind:
    """The kind of a source by its address: documents have paths, pages have schemes."""
    return "web" if "://" in url else "document"


class SearchError(ResonanceError):
    """An invalid search setting; raised while a retriever is built, never while it answers."""


class ProviderError(Exception):
    """A provider could not answer; the conversation continues without sources.

    `retryable`: the same call may succeed a moment later.
    """

    retryable = False


class RateLimited(ProviderError):
    """The provider refuses for now: HTTP 202, 403, 418, 429 or a CAPTCHA page."""


class Timeout(ProviderError):
    """The provider did not respond in time."""

    retryable = True


class Unavailable(ProviderError):
    """The provider is unreachable, or its response is not a result page."""


class ConnectionFailed(Unavailable):
    """The connection failed: refused, reset, unknown name, interrupted."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a provider; `rank` starts at 0, `snippet` is the provider's own extract."""

    title: str
    url: str
    snippet: str
    rank: int
    provider: str

    @property
    def kind(self) -> Kind:
        """Whose text it is."""
        return kind_of(self.url)


@dataclass(frozen=True, slots=True)
class Source:
    """A numbered source of an answer: `id` is the number that citations use, `passage` the text in the prompt.

    What looks like an order in a `passage` of the web is marked in the prompt, not here.
    """

    id: int
    title: str
    url: str
    site: str
    passage: str
    score: float

    @property
    def kind(self) -> Kind:
        """Whose text it is."""
        return kind_of(self.url)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The result of one retrieval.

    `context` has one line per source, `[1] Title (site): text`, or is empty. `problem` says why a search that was due
    has no sources, old ones or a part of them. `why` is the reason for the search, or for none. `searched` is False
    when no search was due; `query` is empty then.
    """

    query: str
    provider: str
    sources: tuple[Source, ...] = ()
    context: str = ""
    problem: Problem | None = None
    why: Reason | None = None
    searched: bool = True

    @property
    def note(self) -> str | None:
        """The problem as a sentence for the user."""
        return None if self.problem is None else self.problem.sentence()

    @property
    def reason(self) -> str:
        """The reason in words for the user, or nothing."""
        return "" if self.why is None else self.why.sentence()


@dataclass(frozen=True, slots=True)
class Budget:
    """Token budgets of sources and of earlier turns in a prompt, from the configuration."""

    max_tokens: int = 380
    history_tokens: int = 240
    max_sources: int = 4
    per_site: int = 2
    sentences_per_source: int = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of a search, in seconds."""

    deadline: float = 4.0
    attempt: float = 2.5
    attempts: int = 2
    spacing: float = 1.0
    circuit: tuple[float, float] = (60.0, 120.0)
    results_ttl: float = 3600.0
    pages_ttl: float = 86400.0
    failures_ttl: float = 60.0
    stale_ttl: float = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class SearchResults:
    """A provider's hits, and their age in seconds: 0 when they are fresh."""

    hits: list[Hit]
    age: float


class Provider(Protocol):
    """A search engine. An empty list means that it found nothing."""

    @property
    def name(self) -> str:
        """The name shown to users: `duckduckgo`, `documents`, ..."""
        ...

    async def search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """Find at most `k` hits; `time_limit` is d, w, m, y or None.

        Raises RateLimited, Timeout or Unavailable.
        """
        ...
