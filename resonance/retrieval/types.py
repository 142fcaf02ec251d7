"""What the parts of retrieval say to one another: hits, sources, the provider's protocol, its errors.

Knows nothing of how anything is searched, ranked or shown.
"""

from dataclasses import dataclass
from typing import Protocol

from resonance.errors import ResonanceError


class SearchError(ResonanceError):
    """A setting of the search cannot work; raised while building, never while answering."""


class ProviderError(Exception):
    """A provider could not answer; the chat goes on without sources.

    `retryable` says that the very same call may succeed a moment later.
    """

    retryable = False


class RateLimited(ProviderError):
    """The provider refuses for now: HTTP 202, 403, 418, 429 or a page that asks for proof of a human."""


class Timeout(ProviderError):
    """The provider did not answer in time."""

    retryable = True


class Unavailable(ProviderError):
    """The provider cannot be reached or answered with something that is not a result page."""


class ConnectionFailed(Unavailable):
    """No connection: refused, reset, unknown name, broken off."""

    retryable = True


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a provider; `rank` counts from 0, `snippet` is the provider's own extract."""

    title: str
    url: str
    snippet: str
    rank: int
    provider: str


@dataclass(frozen=True, slots=True)
class Source:
    """What the answer may draw on: `id` is the number that citations use, `passage` the text in the prompt."""

    id: int
    title: str
    url: str
    site: str
    passage: str
    score: float


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The outcome of one retrieval.

    `context` is one line a source, `[1] Title (site): text`, or empty. `note` is a sentence for the reader
    when the answer goes on without sources, or with old ones, though a search was due. `reason` says why
    there was a search, or none. `searched` is False when none was due; then `query` is empty.
    """

    query: str
    provider: str
    sources: tuple[Source, ...] = ()
    context: str = ""
    note: str | None = None
    reason: str = ""
    searched: bool = True


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a prompt sources may take, and what earlier turns keep beside them; all from the configuration."""

    max_tokens: int = 380
    history_tokens: int = 240
    max_sources: int = 4
    per_site: int = 2
    sentences_per_source: int = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """Times, in seconds, that a search keeps to."""

    deadline: float = 4.0
    attempt: float = 2.5
    attempts: int = 2
    spacing: float = 1.0
    circuit: tuple[float, float] = (60.0, 120.0)
    results_ttl: float = 3600.0
    pages_ttl: float = 86400.0
    failures_ttl: float = 60.0
    stale_ttl: float = 7 * 86400.0


class Provider(Protocol):
    """Where hits come from. An empty list means that nothing was found."""

    @property
    def name(self) -> str:
        """The name that is shown: `duckduckgo`, `documents`, ..."""
        ...

    async def search(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """Find at most `k` hits; `time_limit` is d, w, m, y or None.

        Raises RateLimited, Timeout or Unavailable.
        """
        ...
