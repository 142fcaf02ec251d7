"""Providers as the retriever calls them: network providers cached, spaced, retried and behind a circuit breaker.

State is kept per process; processes may share the cache file.
"""

import asyncio
import random
import time
from dataclasses import asdict
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
    SearchResults,
    Timeout,
    Unavailable,
)

_ERRORS = {error.__name__: error for error in (RateLimited, Timeout, Unavailable, ConnectionFailed)}


class ThrottledProvider:
    """A network provider behind a cache, a circuit breaker and a queue.

    `find` returns cached results younger than `limits.results_ttl`; failures are cached for `limits.failures_ttl`;
    after RateLimited no request is sent for a random time within `limits.circuit`.
    """

    def __init__(self, provider: Provider, cache: Cache, limits: Limits) -> None:
        self._provider = provider
        self._cache = cache
        self._limits = limits
        self._open_until = 0.0
        self._next_call = 0.0
        self._calls: dict[str, asyncio.Task[SearchResults]] = {}

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._provider.name

    async def find(self, query: str, k: int, region: str, time_limit: str | None) -> SearchResults:
        """Find hits. Concurrent equal queries share one call, which continues when a caller is cancelled.

        Raises RateLimited, Timeout or Unavailable, also while one of them is cached.
        """
        key = self._key(query, k, region, time_limit)
        entry = await asyncio.to_thread(self._cache.get, "results", key, max_age=self._limits.results_ttl)
        if entry is not None:
            return SearchResults(_hits(entry.value), entry.age)
        if (call := self._calls.get(key)) is None:
            call = asyncio.create_task(self._fetch(key, query, k, region, time_limit))
            call.add_done_callback(_retrieve_exception)
            self._calls[key] = call
        return await asyncio.shield(call)

    async def stale(self, query: str, k: int, region: str, time_limit: str | None) -> SearchResults | None:
        """Cached results younger than `limits.stale_ttl`, for when the provider fails; None without any."""
        key = self._key(query, k, region, time_limit)
        entry = await asyncio.to_thread(self._cache.get, "results", key, max_age=self._limits.stale_ttl)
        return SearchResults(_hits(entry.value), entry.age) if entry is not None else None

    def forget(self) -> None:
        """Delete cached results that are older than the retention time."""
        self._cache.prune()

    def _key(self, query: str, k: int, region: str, time_limit: str | None) -> str:
        return "\x1f".join((self.name, region, time_limit or "", str(k), " ".join(query.lower().split())))

    async def _fetch(self, key: str, query: str, k: int, region: str, time_limit: str | None) -> SearchResults:
        try:
            await self._refuse_known_failure(key)
            try:
                hits = await self._call(query, k, region, time_limit)
            except ProviderError as error:
                if isinstance(error, RateLimited):
                    self._open_until = time.monotonic() + random.uniform(*self._limits.circuit)
                await asyncio.to_thread(self._cache.put, "failures", key, type(error).__name__)
                raise
            await asyncio.to_thread(self._cache.put, "results", key, [asdict(hit) for hit in hits])
            return SearchResults(hits, 0.0)
        finally:
            self._calls.pop(key, None)

    async def _refuse_known_failure(self, key: str) -> None:
        left = self._open_until - time.monotonic()
        if left > 0:
            raise RateLimited(f"{self.name} refused a moment ago; the next request is in {left:.0f} s")
        entry = await asyncio.to_thread(self._cache.get, "failures", key, max_age=self._limits.failures_ttl)
        if entry is not None:
            raise _ERRORS.get(str(entry.value), Unavailable)(f"{self.name} failed for this query a moment ago")
        if self._next_call - time.monotonic() > self._limits.deadline:
            raise Unavailable(f"too many searches are waiting for {self.name}")

    async def _call(self, query: str, k: int, region: str, time_limit: str | None) -> list[Hit]:
        """One spaced call, retried after a time-out or a connection error."""
        attempts = stamina.retry_context(
            on=_is_retryable,
            attempts=self._limits.attempts,
            timeout=self._limits.deadline,
            wait_initial=0.1,
            wait_jitter=0.2,
        )
        async for attempt in attempts:
            with attempt:
                await self._wait_for_slot()
                try:
                    async with asyncio.timeout(self._limits.attempt):
                        return await self._provider.search(query, k, region, time_limit)
                except TimeoutError as error:
                    seconds = self._limits.attempt
                    raise Timeout(f"{self.name} did not answer within {seconds:g} s") from error
        raise AssertionError("stamina ends by returning or raising")

    async def _wait_for_slot(self) -> None:
        """Sleep until at least `limits.spacing` seconds have passed since the previous call."""
        now = time.monotonic()
        start = max(now, self._next_call)
        self._next_call = start + self._limits.spacing
        if start > now:
            await asyncio.sleep(start - now)


class DirectProvider:
    """A provider on this machine, called without cache or throttling."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._provider.name

    async def find(self, query: str, k: int, region: str, time_limit: str | None) -> SearchResults:
        """Find hits. Raises what the provider raises."""
        return SearchResults(await self._provider.search(query, k, region, time_limit), 0.0)

    async def stale(self, query: str, k: int, region: str, time_limit: str | None) -> SearchResults | None:
        """None: nothing is cached."""
        return None

    def forget(self) -> None:
        """Do nothing: nothing is cached."""


def _retrieve_exception(call: asyncio.Task[SearchResults]) -> None:
    # When every caller was cancelled, asyncio would log the exception as never retrieved.
    if not call.cancelled():
        call.exception()


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, ProviderError) and error.retryable


def _hits(value: object) -> list[Hit]:
    return [Hit(**entry) for entry in cast(list[dict[str, Any]], value)]
