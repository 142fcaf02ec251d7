"""Embeddings: OpenAI's request and response, computed by the same model as its answers."""

from fastapi import APIRouter, Request, Response

from serve.api.auth import CallerDep
from serve.api.schemas.requests import EmbeddingRequest
from serve.api.schemas.responses import EmbeddingList
from serve.api.service import ServiceDep
from serve.generation.embeddings import EmbeddingsFormat, prepare_embeddings
from serve.generation.generation import Generation
from serve.middleware.cors import TypedRoute

router = APIRouter(tags=["embeddings"], route_class=TypedRoute)


@router.post("/v1/embeddings", response_model=EmbeddingList)
async def embeddings(body: EmbeddingRequest, request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Embed texts: the mean over each text's tokens of the model's last layer, after the final LayerNorm.

    The vectors have the model's `n_embd` numbers and are not normalised.
    """
    model = service.model(body.model)
    generation = await Generation.start(
        service, caller, model, lambda: prepare_embeddings(service, model, body), stream=False, prefix="embd"
    )
    return await generation.whole(request, EmbeddingsFormat(generation, body))
