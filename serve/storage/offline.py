"""Opens a server's database for a command, which may run beside the server."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from serve.storage.database import StoreError, default_url
from serve.storage.errors import StoreUnavailable
from serve.storage.store import Store

Result = TypeVar("Result")


def with_store(url: str | None, work: Callable[[Store], Awaitable[Result]]) -> Result:
    """Run `work` with an existing database; None: DATABASE_URL, else the default one. Raises StoreError."""
    logging.getLogger("resonance").addHandler(logging.NullHandler())  # the error names the cause
    store = Store(url or os.environ.get("DATABASE_URL") or default_url())
    path = store.url.database if store.url.get_backend_name() == "sqlite" else None
    if path and not Path(path).is_file():
        raise StoreError(f"There is no database at {path}; store.url=URL says which one the server uses.")

    async def run() -> Result:
        try:
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreUnavailable as error:
        shown = store.url.render_as_string(hide_password=True)
        raise StoreError(f"The database {shown} cannot be used: {error}.") from error
