"""The endpoints about the server itself: health, models, metrics."""

import time
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serve.api.auth import CallerDep
from serve.api.schemas.responses import Health, HealthModel, HealthSearch, Model, ModelList
from serve.api.service import VERSION, Service, ServiceDep
from serve.workers.shared_state import WorkerState

router = APIRouter()


@router.get("/health", response_model=Health, responses={503: {"model": Health}}, tags=["server"])
async def health(service: ServiceDep) -> JSONResponse:
    """Whether the server answers requests: 200 when it does, 503 while it loads or is down."""
    first = service.models.default()
    status = _status(service)
    body = Health(
        status=status,
        version=VERSION,
        model=HealthModel(
            id=first.name,
            parameters=first.parameters,
            context_length=first.context_length,
            device=service.device,
            dtype=service.state.precision(),
        ),
        search=HealthSearch(
            enabled=service.retriever is not None,
            provider=None if service.retriever is None else service.retriever.provider,
        ),
        uptime_s=round(time.monotonic() - service.started, 3),
    )
    headers = {"Cache-Control": "no-store"} | ({} if status == "ok" else {"Retry-After": "2"})
    return JSONResponse(body.model_dump(), 200 if status == "ok" else 503, headers=headers)


def _status(service: Service) -> Literal["ok", "loading", "down"]:
    """What the workers' states and heartbeats say."""
    state = service.state
    states = [state.worker_state(worker) for worker in range(state.workers)]
    alive = [
        worker
        for worker, worker_state in enumerate(states)
        if worker_state == WorkerState.READY and state.seconds_since_heartbeat(worker) < service.settings.hang_s
    ]
    if alive:
        return "ok"
    return "loading" if WorkerState.LOADING in states else "down"


@router.get("/v1/models", tags=["models"])
async def models(service: ServiceDep, _: CallerDep) -> ModelList:
    """Every served checkpoint, with its template and scores."""
    return ModelList(data=[model.card() for model in service.models])


@router.get("/v1/models/{model_id}", tags=["models"])
async def model(model_id: str, service: ServiceDep, _: CallerDep) -> Model:
    """One served checkpoint."""
    return service.model(model_id).card()


@router.get("/metrics", tags=["server"], response_class=Response)
async def metrics(service: ServiceDep, _: CallerDep) -> Response:
    """The server's metrics in Prometheus' text format."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
