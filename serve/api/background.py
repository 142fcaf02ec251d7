"""What follows from the keys while the server runs: answers of revoked keys end, and keys that got a name move.

It runs in the HTTP process beside the requests.
"""

import asyncio
import logging

from serve.api.auth import KeyRing
from serve.storage.errors import StoreUnavailable
from serve.storage.ownership import move
from serve.storage.store import Store
from serve.workers.client import WorkerClient
from serve.workers.messages import Failure

log = logging.getLogger("resonance.serve")
EVERY = 0.5  # seconds between two looks at the answers under way
AGAIN = 5.0  # seconds after which a database that did not answer is tried again
REVOKED = Failure(401, "invalid_api_key", "The API key was revoked or has expired while the answer was under way.")


async def end_revoked(client: WorkerClient, keys: KeyRing) -> None:
    """End the answers whose keys are not let in any more. Runs for ever."""
    while True:
        await asyncio.sleep(EVERY)
        keys.refresh()
        for handle in list(client.requests.values()):
            if handle.failure is None and not keys.still_admits(handle.key):
                handle.fail(REVOKED)


async def move_to_named_owners(store: Store, keys: KeyRing) -> None:
    """Give what was written with keys of RESONANCE_API_KEYS to the owners that these name now; returns when it is done.

    Before a key had a name, its conversations stood under its hash.
    """
    for former, owner in keys.renamed().items():
        while True:
            try:
                moved = await move(store, former, owner)
            except StoreUnavailable:
                await asyncio.sleep(AGAIN)
                continue
            if moved:
                log.info(
                    "a key of RESONANCE_API_KEYS has a name now: its owner gets %d conversations and %d votes",
                    moved.conversations,
                    moved.votes,
                )
            break
