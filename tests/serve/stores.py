"""A conversations' store for tests that need no server."""

import asyncio
from collections.abc import Awaitable, Callable

from serve.storage.store import Store


def on_store(url: str, use: Callable[[Store], Awaitable[object]]) -> None:
    """Open the store at `url`, let `use` work on it, and close it."""

    async def main() -> None:
        store = Store(url)
        await store.open()
        try:
            await use(store)
        finally:
            await store.close()

    asyncio.run(main())
