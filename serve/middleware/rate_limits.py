"""How much one client may ask for in a minute and at once; clients are told apart by key, or by address."""

import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from serve.api.errors import ApiError
from serve.settings import Limits


class Quotas:
    """Requests and tokens a minute, and answers at once; a limit that is None does not hold."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._window = MovingWindowRateLimiter(MemoryStorage())
        self._requests = _a_minute(limits.requests_per_minute)
        self._tokens = _a_minute(limits.tokens_per_minute)
        self._owed: Counter[str] = Counter()  # tokens over the limit, which the next minutes pay for
        self._streams: Counter[str] = Counter()

    @contextmanager
    def one_more(self, client: str) -> Generator[None]:
        """Let a request in for as long as the block lasts. Raises ApiError 429."""
        if self._limits.streams is not None and self._streams[client] >= self._limits.streams:
            raise ApiError(
                429, f"At most {self._limits.streams} answers at a time.", code="too_many_streams", retry_after=1
            )
        if self._requests and not self._window.hit(self._requests, "requests", client):
            raise self._refusal(self._requests, "requests", client)
        self.spend(client, self._owed.pop(client, 0))
        if self._tokens and not self._window.test(self._tokens, "tokens", client):
            raise self._refusal(self._tokens, "tokens", client)
        self._streams[client] += 1
        try:
            yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]

    def spend_prompt(self, client: str, tokens: int) -> None:
        """Count a prompt's tokens before they are computed. Raises ApiError 400 for more than a minute ever has."""
        if self._tokens and tokens > self._tokens.amount:
            raise ApiError(
                400,
                f"The request's prompts have {tokens} tokens, and the limit is {self._tokens.amount} a minute; send "
                "fewer or shorter ones.",
                code="tokens_per_minute",
            )
        self.spend(client, tokens)

    def spend(self, client: str, tokens: int) -> None:
        """Count tokens; what goes over the limit is owed, and the next request waits until it is paid."""
        if self._tokens and tokens:
            paid = min(tokens, self._window.get_window_stats(self._tokens, "tokens", client).remaining)
            if paid:
                self._window.hit(self._tokens, "tokens", client, cost=paid)
            if tokens > paid:
                self._owed[client] += tokens - paid

    def _refusal(self, item: RateLimitItemPerMinute, kind: str, client: str) -> ApiError:
        wait = self._window.get_window_stats(item, kind, client).reset_time - time.time()
        return ApiError(
            429, f"At most {item.amount} {kind} a minute.", code=f"{kind}_per_minute", retry_after=max(1, wait)
        )


def _a_minute(amount: int | None) -> RateLimitItemPerMinute | None:
    return None if amount is None else RateLimitItemPerMinute(amount)
