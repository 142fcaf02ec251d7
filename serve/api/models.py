"""The served models: list them; with an admin key, load, reload and unload checkpoints while the server runs."""

from typing import Annotated

from fastapi import APIRouter, Path

from serve.api.auth import AdminDep, CallerDep
from serve.api.schemas.requests import LoadRequest
from serve.api.schemas.responses import DeletedModel, Model, ModelList
from serve.api.service import ServiceDep
from serve.middleware.cors import TypedRoute

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=TypedRoute)
admin_router = APIRouter(prefix="/v1/models", tags=["models"], route_class=TypedRoute)
ModelId = Annotated[str, Path(max_length=200)]


@router.get("")
async def models(service: ServiceDep, _: CallerDep) -> ModelList:
    """Every served checkpoint, with its template and scores."""
    return ModelList(data=[model.card(service.settings.sampling) for model in service.models])


@router.get("/{model_id}")
async def model(model_id: str, service: ServiceDep, _: CallerDep) -> Model:
    """One served checkpoint."""
    return service.model(model_id).card(service.settings.sampling)


@admin_router.post("")
async def load_model(body: LoadRequest, service: ServiceDep, _: AdminDep) -> Model:
    """Load one more checkpoint, within the memory budget. The response comes when it accepts requests."""
    return (await service.models.load(body.checkpoint)).card(service.settings.sampling)


@admin_router.post("/{model_id}/reload")
async def reload_model(model_id: ModelId, service: ServiceDep, _: AdminDep) -> Model:
    """Reload a served checkpoint, after a training for example. Answers under way finish with the old weights."""
    return (await service.models.reload(model_id)).card(service.settings.sampling)


@admin_router.delete("/{model_id}")
async def unload_model(model_id: ModelId, service: ServiceDep, _: AdminDep) -> DeletedModel:
    """Unload a checkpoint. Answers under way finish."""
    await service.models.unload(model_id)
    return DeletedModel(id=model_id)
