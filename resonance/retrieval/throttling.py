"""A provider made polite and patient: cached, spaced, retried, one flight a query, silent after a refusal.

Wraps any network provider. Everything is decided per process; the cache file may be shared.
"""

import asyncio
import random
import time
from dataclasses import asdict, dataclass
from typing import Any, cast

import stamina

from resonance.retrieval.cache import Cache
from resonance.retrieval.types import (
    ConnectionFailed,
    Hit,
    Limits,
    Provider,
    ProviderError,
    RateLimited,
    Timeout,
    Unavailable,
)

_ERRORS = {error.__name__: error for error in (RateLimited, Timeout, Unavailable, ConnectionFailed)}


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, and how old they are in seconds: 0 when they are fresh."""

    hits: list[Hit]
    age: float


class Polite:
    """A provider behind a cache, a circuit and a queue.

    `find` answers from the cache within `limits.results_ttl`; a failure is remembered for
    `limits.failures_ttl`; after RateLimited nothing is sent for a random time within `limits.circuit`.
    """

    def __init__(self, provider: Provider, cache: Cache, limits: Limits) -> None:
        self._provider = provider
        self._cache = cache
        self._limits = limits
        self._closed_until = 0.0
        self._next_call = 0.0
        self._flights: dict[str, asyncio.Task[Found]] = {}

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._provider.name

    async def find(self, query: str, k: int, region: str, time_limit: str | None) -> Found:
        """Find hits; equal queries at the same time share one call, which a caller's leaving does not end.

        Raises RateLimited, Timeout or Unavailable, also while one of them is remembered.
        """
        key = self._key(query, k, region, time_limit)
        entry = await asyncio.to_thread(self._cache.get, "results", key, max_age=self._limits.results_ttl)
        if entry is not None:
            return Found(_hits(entry.value), entry.age)
        if (flight := self._flights.get(key)) is None:
            flight = asyncio.create_task(self._fly(key, query, k, region, time_limit))
            flight.add_done_callback(_looked_at)
            self._flights[key] = flight
        return await asyncio.shield(flight)

    async def stale(self, query: str, k: int, region: str, time_limit: str | None) -> Found | None:
        """Older results for the query, within `limits.stale_ttl`; better than none when the provider fails."""
        key = self._key(query, k, region, time_limit)
        entry = await asyncio.to_thread(self._cache.get, "results", key, max_age=self._limits.stale_ttl)
        return Found(_hits(entry.value), entry.age) if entry is not None else None

    def forget(self) -> None:
        """Delete what was found too long ago to be kept."""
        self._cache.prune()

    def _key(self, query: str, k: int, region: str, time_limit: str | None) -> str:
        return "\x1f".join((self.name, region, time_limit or "", str(k), " ".join(query.lower().split())))

    async def _fly(self, key: str, query: str, k: int, region: str, time_limit: str | None) -> Found:
        try:
            await self._refuse_known_failure(key)
            try:
                hits = await self._call(query, k, region, time_limit)
            except ProviderError as error:
                if isinstance(error, RateLimited):
                    self._closed_until = time.monotonic() + random.uniform(*self._limits.circuit)
                await asyncio.to_thread(self._cache.put, "failures", key, type(error).__name__)
                raise
            await asyncio.to_thread(self._cache.put, "results", key, [asdict(hit) for hit in hits])
            return Found(hits, 0.0)
        finally:
            self._flights.pop(key, None)

    async def _refuse_known_failure(self, key: str) -> None:
        left = self._closed_until - time.monotonic()
        if left > 0:
            raise RateLimited(f"{self.name} refused a moment ago; it is asked again in {left:.0f} s")
        entry = await asyncio.to_thread(self._cache.get, "failures", key, max_age=self._limits.failures_ttl)
        if entry is not None:
            raise _ERRORS.get(str(entry.value), Unavailable)(f"{self.name} failed at this a moment ago")
        if self._next_call - time.monotonic() > self._limits.deadline:
            raise Unavailable(f"too many searches wait for {self.name} already")

    async def _call(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """One spaced call, repeated once or more after a time-out or a connection error."""
        attempts = stamina.retry_context(
            on=_may_pass,
            attempts=self._limits.attempts,
            timeout=self._limits.deadline,
            wait_initial=0.1,
            wait_jitter=0.2,
        )
        async for attempt in attempts:
            with attempt:
                await self._wait_for_turn()
                try:
                    async with asyncio.timeout(self._limits.attempt):
                        return await self._provider.search(query, k, region, time_limit)
                except TimeoutError as error:
                    seconds = self._limits.attempt
                    raise Timeout(f"{self.name} did not answer within {seconds:g} s") from error
        raise AssertionError("stamina ends by returning or raising")

    async def _wait_for_turn(self) -> None:
        """Sleep until at least `limits.spacing` seconds lie between this call and the one before."""
        now = time.monotonic()
        turn = max(now, self._next_call)
        self._next_call = turn + self._limits.spacing
        if turn > now:
            await asyncio.sleep(turn - now)


class Direct:
    """A provider on this machine: nothing to be polite to, and nothing to remember."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._provider.name

    async def find(self, query: str, k: int, region: str, time_limit: str | None) -> Found:
        """Find hits; raises what the provider raises."""
        return Found(await self._provider.search(query, k, region, time_limit), 0.0)

    async def stale(self, query: str, k: int, region: str, time_limit: str | None) -> Found | None:
        """None: there is nothing older than the documents themselves."""
        return None

    def forget(self) -> None:
        """Nothing: nothing is kept."""


def _looked_at(flight: asyncio.Task[Found]) -> None:
    # When every caller has left, nobody asks for the outcome; asyncio would report it as lost.
    if not flight.cancelled():
        flight.exception()


def _may_pass(error: Exception) -> bool:
    return isinstance(error, ProviderError) and error.retryable


def _hits(value: object) -> list[Hit]:
    return [Hit(**entry) for entry in cast(list[dict[str, Any]], value)]
