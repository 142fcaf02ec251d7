"""The caller's consent to training on their conversations: read it, give it, withdraw it."""

from fastapi import APIRouter

from serve.api.auth import CallerDep
from serve.api.errors import ApiError, store_errors
from serve.api.schemas.consent import ConsentRequest, TrainingConsent
from serve.api.service import Service, ServiceDep
from serve.middleware.cors import TypedRoute
from serve.storage.consent import Consent, read_consent, set_consent

router = APIRouter(prefix="/v1/training-consent", tags=["conversations"], route_class=TypedRoute)


@router.get("")
async def training_consent(service: ServiceDep, caller: CallerDep) -> TrainingConsent:
    """Whether training may use the caller's conversations and judgements: no, until they say yes."""
    with store_errors():
        return _as_schema(service, await read_consent(service.store, caller.owner))


@router.put("")
async def change_training_consent(body: ConsentRequest, service: ServiceDep, caller: CallerDep) -> TrainingConsent:
    """Give or withdraw consent. The next training leaves out what is withdrawn; checkpoints made before keep it."""
    policy = service.settings.store.training_consent
    if policy != "ask":
        raise ApiError(
            409, f"This server does not ask: store.training_consent={policy}.", param="given", code="consent_is_settled"
        )
    with store_errors():
        return _as_schema(service, await set_consent(service.store, caller.owner, given=body.given))


def _as_schema(service: Service, consent: Consent | None) -> TrainingConsent:
    policy = service.settings.store.training_consent
    given = policy == "given" or (policy == "ask" and consent is not None and consent.given)
    return TrainingConsent(policy=policy, given=given, changed_at=None if consent is None else consent.changed_at)
