"""Rate limits by client: requests and tokens a minute, concurrent answers; and a limit on concurrent exports.

A client is the owner of an API key, or an address where no keys are required.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from serve.api.errors import ApiError
from serve.generation.event_stream import SEND_BYTES
from serve.settings import Limits


class RateLimiter:
    """Limits requests a minute, tokens a minute and concurrent answers of each client; None: no limit."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._window = MovingWindowRateLimiter(MemoryStorage())
        self._requests = _per_minute(limits.requests_per_minute)
        self._tokens = _per_minute(limits.tokens_per_minute)
        self._owed: Counter[str] = Counter()  # tokens over the limit, which count in the next minutes
        self._streams: Counter[str] = Counter()

    @contextmanager
    def admit(self, client: str) -> Generator[None]:
        """Admit a request, and count it as running until the block ends. Raises ApiError 429."""
        if self._limits.streams is not None and self._streams[client] >= self._limits.streams:
            raise ApiError(
                429, f"At most {self._limits.streams} answers at a time.", code="too_many_streams", retry_after=1
            )
        if self._requests and not self._window.hit(self._requests, "requests", client):
            raise self._exceeded(self._requests, "requests", client)
        self.spend(client, self._owed.pop(client, 0))
        if self._tokens and not self._window.test(self._tokens, "tokens", client):
            raise self._exceeded(self._tokens, "tokens", client)
        self._streams[client] += 1
        try:
            yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]

    def spend_prompt(self, client: str, tokens: int) -> None:
        """Count a prompt's tokens before its prefill. Raises ApiError 400 for more than the limit of a minute."""
        if self._tokens and tokens > self._tokens.amount:
            raise ApiError(
                400,
                f"The request's prompts have {tokens} tokens, and the limit is {self._tokens.amount} a minute; send "
                "fewer or shorter ones.",
                code="tokens_per_minute",
            )
        self.spend(client, tokens)

    def spend(self, client: str, tokens: int) -> None:
        """Count tokens. Those over the limit are owed: the client's requests are refused until they are counted."""
        if self._tokens and tokens:
            counted = min(tokens, self._window.get_window_stats(self._tokens, "tokens", client).remaining)
            if counted:
                self._window.hit(self._tokens, "tokens", client, cost=counted)
            if tokens > counted:
                self._owed[client] += tokens - counted

    def _exceeded(self, item: RateLimitItemPerMinute, kind: str, client: str) -> ApiError:
        wait = self._window.get_window_stats(item, kind, client).reset_time - time.time()
        return ApiError(
            429, f"At most {item.amount} {kind} a minute.", code=f"{kind}_per_minute", retry_after=max(1, wait)
        )


def _per_minute(amount: int | None) -> RateLimitItemPerMinute | None:
    return None if amount is None else RateLimitItemPerMinute(amount)


class ExportLimiter:
    """Allows `limit` concurrent exports. Each holds a batch of conversations in memory until its client has read it."""

    def __init__(self, limit: int) -> None:
        self._limit, self._running = limit, 0

    def check(self) -> None:
        """Raise ApiError 429 where `limit` exports are running."""
        if self._running >= self._limit:
            raise ApiError(
                429,
                f"At most {self._limit} exports at a time (limits.exports).",
                code="too_many_exports",
                retry_after=5,
            )

    async def chunks(self, batches: AsyncIterator[str]) -> AsyncIterator[bytes]:
        """Yield an export in small chunks. It counts as running from the first chunk until the client has read it."""
        self._running += 1
        try:
            async for batch in batches:
                data = batch.encode()
                for start in range(0, len(data), SEND_BYTES):
                    yield data[start : start + SEND_BYTES]
        finally:
            self._running -= 1
