"""The FastAPI application: routers, middleware, and the OpenAPI document."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from serve.api import (
    chat,
    completions,
    consent,
    conversations,
    datasets,
    embeddings,
    errors,
    explain,
    feedback,
    files,
    learned,
    models,
    responses,
    shadow_pairs,
    shares,
    system,
)
from serve.api.schemas.conversations import Conversation
from serve.api.schemas.errors import ErrorBody
from serve.api.schemas.feedback import Example, Preference
from serve.api.schemas.responses import Citations, NotSearched
from serve.api.service import VERSION, Service
from serve.api.static import add_docs, add_page
from serve.middleware.access_log import AccessLogMiddleware
from serve.middleware.admission import AdmissionMiddleware, BodyReader
from serve.middleware.cors import METHODS, Cors, CsrfMiddleware
from serve.middleware.head import HeadMiddleware
from serve.middleware.host import HostMiddleware

ABOUT = "GPT-2 from scratch behind OpenAI's API, with stored conversations. Errors always have one form."
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "The request is invalid."},
    401: {"model": ErrorBody, "description": "An API key is missing or unknown."},
    403: {"model": ErrorBody, "description": "The host or origin is not allowed, or the key is no admin key."},
    404: {"model": ErrorBody, "description": "The object or address does not exist."},
    408: {"model": ErrorBody, "description": "The request was not received in time."},
    409: {"model": ErrorBody, "description": "The conversation is busy."},
    413: {"model": ErrorBody, "description": "The request is too large."},
    415: {"model": ErrorBody, "description": "The body does not have the endpoint's content type."},
    429: {"model": ErrorBody, "description": "Too many requests; Retry-After says when to try again."},
    500: {"model": ErrorBody, "description": "The server failed."},
    503: {"model": ErrorBody, "description": "A part that the request needs is unavailable at the moment."},
    504: {"model": ErrorBody, "description": "The answer took too long."},
}


def build(app: FastAPI, service: Service) -> None:
    """Add error handlers, routers and middleware to the app that LitServe made."""
    app.state.service = service
    app.title, app.version, app.description = "Resonance", VERSION, ABOUT
    errors.add_handlers(app)
    add_routers(app)
    add_docs(app)
    add_page(app)
    # From the innermost to the outermost.
    app.add_middleware(
        AdmissionMiddleware,
        metrics=service.metrics,
        bodies=BodyReader(service.settings.limits, service.keys, service.settings.files.max_bytes),
        full=service.full,
    )
    app.add_middleware(HeadMiddleware)
    app.add_middleware(
        Cors,
        allow_origins=service.settings.cors_origins,
        allow_methods=METHODS,
        allow_headers=["*"],  # OpenAI's client for browsers sends a dozen headers of its own
        allow_private_network=True,  # most servers run on their users' machines
        expose_headers=["X-Request-ID", "Retry-After"],
    )
    settings = service.settings
    app.add_middleware(CsrfMiddleware, origins=settings.cors_origins)
    if not settings.requires_keys or settings.allowed_hosts:
        app.add_middleware(HostMiddleware, names=settings.allowed_hosts, bound=settings.host)
    app.add_middleware(AccessLogMiddleware, metrics=service.metrics, tracing=lambda: service.tracing)
    # As FastAPI documents it.
    app.openapi = lambda: document(app, open_to_all=service.keys.open)  # type: ignore[method-assign]  # as FastAPI documents it


def add_routers(app: FastAPI) -> None:
    """Add all endpoints of the API."""
    for router in (system.router, models.router):
        app.include_router(router, responses={code: ERRORS[code] for code in (401, 403, 404)})
    for router in (chat.router, completions.router, embeddings.router, responses.router):
        app.include_router(router, responses=ERRORS)
    documented = (400, 401, 403, 404, 408, 409, 413, 415, 500, 503)
    arranged = (conversations.router, conversations.folders_router, files.router, shares.router)
    stored = (datasets.router, *arranged, feedback.router, shadow_pairs.router, consent.router, learned.router)
    for router in (models.admin_router, *stored):
        app.include_router(router, responses={code: ERRORS[code] for code in documented})
    app.include_router(explain.router, responses=ERRORS)
    app.include_router(shares.public_router, responses={code: ERRORS[code] for code in (400, 403, 404, 503)})


def document(app: FastAPI, *, open_to_all: bool) -> dict[str, Any]:
    """FastAPI's document without the status 422, which this server never answers.

    While the server is open to all, only the admin operations need a key in it.
    """
    if app.openapi_schema is None or app.state.document_of_open != open_to_all:
        app.state.document_of_open = open_to_all
        admins = {
            (route.path, method)
            for route in models.admin_router.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                operation["responses"].pop("422", None)
                if open_to_all and (path, method.upper()) not in admins:
                    operation.pop("security", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        # Schemas of server-sent events and JSONL lines, which FastAPI does not document.
        _, described = models_json_schema(
            [(model, "serialization") for model in (Citations, NotSearched, Conversation, Example, Preference)],
            ref_template="#/components/schemas/{model}",
        )
        schema["components"]["schemas"] = described["$defs"] | schema["components"]["schemas"]
        app.openapi_schema = schema
    return app.openapi_schema
