"""The parts that the endpoints share in the HTTP process: opened when it starts, closed when it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from serve.api.auth import Caller, KeyRing
from serve.api.background import delete_old_conversations, delete_old_searches, end_revoked, move_to_named_owners
from serve.api.errors import ApiError, server_full
from serve.api.schemas.responses import Usage
from serve.generation.event_logs import EventLogs
from serve.middleware.rate_limits import ExportLimiter, RateLimiter
from serve.models.registry import ModelRegistry
from serve.models.served_model import ServedModel
from serve.settings import Settings
from serve.storage.errors import StoreUnavailable
from serve.storage.session_locks import SessionLocks
from serve.storage.store import Store
from serve.telemetry.metrics import Metrics
from serve.telemetry.tracing import TRACE, Answered, Tracing
from serve.workers.client import NoFreeSlot, RequestHandle, WorkerClient
from serve.workers.messages import Failure, Finished, Idle, Scored, Token
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
    logs: EventLogs
    export_limiter: ExportLimiter
    busy_sessions: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    locks: SessionLocks = field(init=False)
    tracing: Tracing | None = None
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.locks = SessionLocks(self.store)

    def model(self, name: str | None) -> ServedModel:
        """The model that a request names, or the first. Raises ApiError 404 for a name that is not served."""
        if name is None:
            return self.models.default()
        return self.models.get(name)

    def full(self) -> bool:
        """Whether all request slots are taken."""
        return self.state.slots_in_use() >= self.state.slots

    def reserve(self, model: ServedModel, caller: Caller) -> RequestHandle:
        """Reserve a slot for a request. Raises ApiError 503 while no worker is ready, 429 when all slots are taken."""
        if not self.client.is_ready():
            self.metrics.rejected.labels("not_ready").inc()
            raise ApiError(503, "The model is being loaded.", code="not_ready", retry_after=2)
        try:
            answer = self.client.reserve(model.key, self.settings.timeout_s)
        except NoFreeSlot:
            self.metrics.rejected.labels("full").inc()
            raise server_full() from None
        answer.key = caller.key
        return answer

    async def events(self, answer: RequestHandle, started_at: float) -> AsyncIterator[Token | Scored | Idle]:
        """Yield the events of an answer, and record its latencies since `started_at`. Raises ApiError when it fails."""
        timed = False
        async for event in answer.events():
            if isinstance(event, Failure):
                retry_after = None if event.status == 401 else 1
                raise ApiError(event.status, event.message, code=event.code, retry_after=retry_after)
            if isinstance(event, Finished):
                self.metrics.answer_seconds.observe(time.monotonic() - started_at)
                return
            if answer.first_at is not None and not timed:
                timed = True
                self.metrics.first_token.observe(answer.first_at - started_at)
            yield event

    def trace_answer(
        self, answer: RequestHandle, id: str, model: ServedModel, usage: Usage, reasons: Sequence[str | None]
    ) -> None:
        """Record a closed answer in the trace of the current request, where there is one."""
        trace = TRACE.get()
        if trace is not None:
            trace.answered(
                Answered(
                    id=id,
                    model=model.name,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    finish_reasons=tuple(reason or "cancelled" for reason in reasons),
                    sent_at=answer.sent_at,
                    claimed_at=answer.claimed_at,
                    first_at=answer.first_at,
                    ended_at=time.monotonic(),
                    failure=None if answer.failure is None else answer.failure.code,
                )
            )

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
        ]
        if self.settings.store.retention_days is not None:
            tasks.append(asyncio.create_task(delete_old_conversations(self.store, self.settings.store.retention_days)))
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
