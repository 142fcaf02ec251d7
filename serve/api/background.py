"""Background tasks of the HTTP process: follow changes of API keys, delete old conversations and searches."""

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from serve.api.auth import KeyRing
from serve.storage.errors import StoreUnavailable
from serve.storage.ownership import move
from serve.storage.retention import delete_older_than
from serve.storage.store import Store
from serve.workers.client import WorkerClient
from serve.workers.messages import Failure

if TYPE_CHECKING:
    from resonance.retrieval.retriever import Retriever

log = logging.getLogger("resonance.serve")
REVOCATION_INTERVAL = 0.5  # seconds between two checks of the keys of running answers
RETRY_DELAY = 5.0  # seconds before the next attempt while the database is unavailable
PURGE_INTERVAL = 3600.0  # seconds between two deletions of old conversations and searches
REVOKED = Failure(401, "invalid_api_key", "The API key was revoked or has expired while the answer was under way.")


async def end_revoked(client: WorkerClient, keys: KeyRing) -> None:
    """End answers whose keys are no longer valid. Runs until it is cancelled."""
    while True:
        await asyncio.sleep(REVOCATION_INTERVAL)
        keys.refresh()
        for handle in list(client.requests.values()):
            if handle.failure is None and not keys.is_still_valid(handle.key):
                handle.fail(REVOKED)


async def move_to_named_owners(store: Store, keys: KeyRing) -> None:
    """Move what was written with keys of RESONANCE_API_KEYS to the owners that these keys name now; then return.

    Before a key had a name, its conversations belonged to an owner whose id was the key's hash.
    """
    for former, owner in keys.renamed_owners().items():
        while True:
            try:
                moved = await move(store, former, owner)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_DELAY)
                continue
            if moved:
                log.info(
                    "a key of RESONANCE_API_KEYS has a name now: its owner gets %d conversations and %d votes",
                    moved.conversations,
                    moved.votes,
                )
            break


async def delete_old_conversations(store: Store, days: int) -> None:
    """Delete conversations and votes that are older than `days`, every hour. Runs until it is cancelled."""
    while True:
        with suppress(StoreUnavailable):
            await delete_older_than(store, days)
        await asyncio.sleep(PURGE_INTERVAL)


async def delete_old_searches(retriever: "Retriever") -> None:
    """Delete cached searches that are too old, every hour. Runs until it is cancelled."""
    while True:
        await asyncio.to_thread(retriever.forget)
        await asyncio.sleep(PURGE_INTERVAL)
