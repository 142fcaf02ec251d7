"""The request slots of the workers: a request takes one, or is told why there is none."""

from serve.api.auth import Caller
from serve.api.errors import ApiError, server_full
from serve.api.service import Service
from serve.models.served_model import ServedModel
from serve.workers.client import NoFreeSlot, RequestHandle


def reserve_slot(service: Service, caller: Caller, model: ServedModel) -> RequestHandle:
    """Reserve a slot. Raises ApiError 503 while no worker is ready, 429 when all slots are in use."""
    if not service.state.ready_workers():
        service.metrics.rejected.labels("not_ready").inc()
        raise ApiError(503, "The model is being loaded.", code="not_ready", retry_after=2)
    try:
        handle = _free_slot(service, model)
    except NoFreeSlot:
        service.metrics.rejected.labels("full").inc()
        raise server_full() from None
    handle.key = caller.key
    return handle


def _free_slot(service: Service, model: ServedModel) -> RequestHandle:
    """Reserve a slot, before the shadow's answer. Raises NoFreeSlot."""
    shadow = service.shadow
    try:
        handle = service.client.reserve(model.key, service.settings.timeout_s)
    except NoFreeSlot:
        if shadow is None or not shadow.give_way():
            raise
        return service.client.reserve(model.key, service.settings.timeout_s)
    if shadow is not None:
        shadow.pause()
    return handle
