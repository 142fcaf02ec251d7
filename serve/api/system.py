"""The state of the server: health and metrics."""

import time
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serve.api.auth import CallerDep
from serve.api.schemas.responses import Health, HealthLimits, HealthModel, HealthSearch
from serve.api.service import VERSION, Service, ServiceDep
from serve.generation.source_selection import SOURCES
from serve.workers.shared_state import WorkerState

router = APIRouter(tags=["server"])


@router.get("/health", response_model=Health, responses={503: {"model": Health}})
async def health(service: ServiceDep) -> JSONResponse:
    """Whether the server answers requests: 200 when it does, 503 while it loads or is down."""
    first = service.models.default()
    status = _status(service)
    body = Health(
        status=status,
        version=VERSION,
        model=HealthModel(
            id=first.name,
            checkpoint=first.checkpoint,
            parameters=first.parameters,
            context_length=first.context_length,
            device=service.device,
            dtype=service.state.precision(),
            notes=service.state.engine_notes(),
        ),
        search=HealthSearch(
            enabled=service.retriever is not None,
            provider=None if service.retriever is None else service.retriever.provider,
            sources=[] if service.retriever is None else [SOURCES[kind] for kind in service.retriever.kinds],
        ),
        limits=HealthLimits(message_chars=service.settings.limits.message_chars),
        uptime_s=round(time.monotonic() - service.started, 3),
    )
    headers = {"Cache-Control": "no-store"} | ({} if status == "ok" else {"Retry-After": "2"})
    return JSONResponse(body.model_dump(), 200 if status == "ok" else 503, headers=headers)


def _status(service: Service) -> Literal["ok", "loading", "down"]:
    """The server's status by the states and heartbeats of its workers."""
    state = service.state
    states = [state.worker_state(worker) for worker in range(state.workers)]
    if any(
        worker_state == WorkerState.READY and state.seconds_since_heartbeat(worker) < service.settings.hang_s
        for worker, worker_state in enumerate(states)
    ):
        return "ok"
    return "loading" if WorkerState.LOADING in states else "down"


@router.get("/metrics", response_class=Response)
async def metrics(service: ServiceDep, _: CallerDep) -> Response:
    """The server's metrics in Prometheus' text format."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
