"""Exports under way: few at a time, each a batch of conversations in memory, handed on in small pieces."""

from collections.abc import AsyncIterator

from serve.api.errors import ApiError
from serve.generation.delivery import SEND_BYTES


class ExportSlots:
    """Lets `most` exports be under way at the same time; a client that reads slowly holds one of them."""

    def __init__(self, most: int) -> None:
        self._most, self._under_way = most, 0

    def check(self) -> None:
        """Raise ApiError 429 where as many exports are under way as may be."""
        if self._under_way >= self._most:
            raise ApiError(
                429, f"At most {self._most} exports at a time (limits.exports).", code="too_many_exports", retry_after=5
            )

    async def pieces(self, batches: AsyncIterator[str]) -> AsyncIterator[bytes]:
        """An export's bytes; it holds a slot from the first on, until they are read or nobody reads them."""
        self._under_way += 1
        try:
            async for batch in batches:
                data = batch.encode()
                for start in range(0, len(data), SEND_BYTES):
                    yield data[start : start + SEND_BYTES]
        finally:
            self._under_way -= 1
