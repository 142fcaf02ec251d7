"""The served models: list them; with an admin key, load, reload and unload checkpoints while the server runs."""

import asyncio
import logging
from typing import Annotated

from fastapi import APIRouter, Path

from resonance.aliases import AliasError
from serve.api.auth import AdminDep, CallerDep
from serve.api.schemas.conversation_requests import LoadRequest
from serve.api.schemas.responses import DeletedModel, Model, ModelList
from serve.api.service import Service, ServiceDep
from serve.middleware.cors import TypedRoute
from serve.models.lineage import promotion_of
from serve.models.served_model import ServedModel

log = logging.getLogger("resonance.serve")
router = APIRouter(prefix="/v1/models", tags=["models"], route_class=TypedRoute)
admin_router = APIRouter(prefix="/v1/models", tags=["models"], route_class=TypedRoute)
ModelId = Annotated[str, Path(max_length=200)]


@router.get("")
async def models(service: ServiceDep, _: CallerDep) -> ModelList:
    """Every served checkpoint, with its template and scores."""
    return ModelList(data=[await _card(service, model) for model in service.models])


@router.get("/{model_id}")
async def model(model_id: str, service: ServiceDep, _: CallerDep) -> Model:
    """One served checkpoint."""
    return await _card(service, service.model(model_id))


@admin_router.post("")
async def load_model(body: LoadRequest, service: ServiceDep, _: AdminDep) -> Model:
    """Load one more checkpoint, within the memory budget. The response comes when it accepts requests."""
    return await _card(service, await service.models.load(body.checkpoint))


@admin_router.post("/{model_id}/reload")
async def reload_model(model_id: ModelId, service: ServiceDep, _: AdminDep) -> Model:
    """Reload a served checkpoint, after a training for example. Answers under way finish with the old weights."""
    return await _card(service, await service.models.reload(model_id))


@admin_router.delete("/{model_id}")
async def unload_model(model_id: ModelId, service: ServiceDep, _: AdminDep) -> DeletedModel:
    """Unload a checkpoint. Answers under way finish."""
    await service.models.unload(model_id)
    return DeletedModel(id=model_id)


async def _card(service: Service, model: ServedModel) -> Model:
    """The model's card with the promotion of its checkpoint."""
    card = model.card(service.settings.sampling)
    try:
        card.resonance.promotion = await asyncio.to_thread(promotion_of, service.settings.root, model)
    except AliasError as error:
        log.warning("promotions cannot be shown: %s", error)
    return card
