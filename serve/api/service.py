"""The parts that the endpoints share in the HTTP process: opened when it starts, closed when it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from serve.api.auth import KeyRing
from serve.api.background import delete_old_conversations, delete_old_searches, end_revoked, move_to_named_owners
from serve.generation.event_stream import EventStreams
from serve.generation.library import Library
from serve.generation.shadow import Shadow
from serve.middleware.rate_limits import ExportLimiter, RateLimiter
from serve.models.registry import ModelRegistry
from serve.models.served_model import ServedModel
from serve.settings import Settings
from serve.storage.errors import StoreUnavailable
from serve.storage.session_locks import SessionLocks
from serve.storage.store import Store
from serve.telemetry.metrics import Metrics
from serve.telemetry.tracing import Tracing
from serve.workers.client import WorkerClient
from serve.workers.shared_state import SharedState

if TYPE_CHECKING:
    from resonance.retrieval.retriever import Retriever

VERSION = metadata.version("resonance")


@dataclass(slots=True)
class Service:
    """All parts that an endpoint may need."""

    settings: Settings
    models: ModelRegistry
    device: str
    state: SharedState
    client: WorkerClient
    keys: KeyRing
    store: Store
    retriever: "Retriever | None"
    metrics: Metrics
    rate_limiter: RateLimiter
    streams: EventStreams
    export_limiter: ExportLimiter
    locks: SessionLocks = field(init=False)
    library: Library = field(init=False)
    explaining: asyncio.Lock = field(default_factory=asyncio.Lock)
    shadow: Shadow | None = None
    tracing: Tracing | None = None
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.locks = SessionLocks(self.store)
        self.library = Library(self.store, self.settings.search.get("budget") or {})

    def model(self, name: str | None) -> ServedModel:
        """The model that a request names, or the first. Raises ApiError 404 for a name that is not served."""
        if name is None:
            return self.models.default()
        return self.models.get(name)

    def full(self) -> bool:
        """Whether all request slots are taken."""
        yielded = 0 if self.shadow is None else self.shadow.slots_in_use
        return self.state.slots_in_use() - yielded >= self.state.slots

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Open the store, tracing and background tasks in the process that uses them; close them at the end."""
        if self.settings.tracing is not None:
            from serve.telemetry.otlp import OtlpTracing

            self.tracing = OtlpTracing(self.settings.tracing, VERSION)
        with suppress(StoreUnavailable):  # endpoints that need the store answer 503 until it is available
            await self.store.open()
        tasks = [
            asyncio.create_task(self.client.watch()),
            asyncio.create_task(self.metrics.watch()),
            asyncio.create_task(end_revoked(self.client, self.keys)),
            asyncio.create_task(move_to_named_owners(self.store, self.keys)),
            asyncio.create_task(self.locks.renew()),
            asyncio.create_task(self.models.follow_aliases()),
        ]
        if self.settings.store.retention_days is not None:
            tasks.append(asyncio.create_task(delete_old_conversations(self.store, self.settings.store.retention_days)))
        if self.shadow is not None:
            tasks.append(asyncio.create_task(self.shadow.run()))
        if self.retriever is not None:
            tasks.append(asyncio.create_task(delete_old_searches(self.retriever)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.locks.released()
            await self.store.close()
            if self.tracing is not None:
                await asyncio.to_thread(self.tracing.close)


async def get_service(request: Request) -> Service:  # FastAPI runs a plain function on another thread
    """The service of a request's app."""
    return request.app.state.service


ServiceDep = Annotated[Service, Depends(get_service)]
