"""The endpoints for admin keys: load, read again and unload checkpoints while the server runs."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from serve.api.auth import AdminDep
from serve.api.schemas.requests import Strict
from serve.api.schemas.responses import DeletedModel, Model
from serve.api.service import ServiceDep
from serve.middleware.content_type import TypedRoute

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=TypedRoute)
ModelId = Annotated[str, Path(max_length=200)]


class LoadRequest(Strict):
    """Which checkpoint to load."""

    checkpoint: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")] = Field(
        description="latest, best, a run's name or a base model's name."
    )


@router.post("")
async def load_model(body: LoadRequest, service: ServiceDep, _: AdminDep) -> Model:
    """Serve one more checkpoint, within the memory budget; the answer comes when it can be asked."""
    return (await service.models.load(body.checkpoint)).card()


@router.post("/{model_id}/reload")
async def reload_model(model_id: ModelId, service: ServiceDep, _: AdminDep) -> Model:
    """Read a served checkpoint again, as after a training; answers under way finish with the old weights."""
    return (await service.models.reload(model_id)).card()


@router.delete("/{model_id}")
async def unload_model(model_id: ModelId, service: ServiceDep, _: AdminDep) -> DeletedModel:
    """Serve a checkpoint no more; answers under way finish."""
    await service.models.unload(model_id)
    return DeletedModel(id=model_id)
