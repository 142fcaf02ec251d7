"""Who is calling: an API key's mark, or nobody in particular where no keys are asked for."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from serve.errors import ApiError

_bearer = HTTPBearer(auto_error=False, description="One of the server's API keys, where it asks for them.")


@dataclass(frozen=True, slots=True)
class Caller:
    """`owner` marks whose conversations these are; `client` is whom limits count for."""

    owner: str
    client: str


class KeyRing:
    """The keys that are let in, kept as hashes; empty: everybody is."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    @property
    def open(self) -> bool:
        """Whether no key is asked for."""
        return not self._digests

    def owner(self, key: str) -> str | None:
        """The mark of a key that is let in. Every key is compared, each in constant time."""
        digest = _digest(key)
        known = [hmac.compare_digest(digest, each) for each in self._digests]
        return digest.hex()[:32] if any(known) else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def caller(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    """The caller of a request. Raises ApiError 401 without a key that is let in."""
    ring: KeyRing = request.app.state.service.keys
    address = request.client.host if request.client else "unknown"
    if ring.open:
        return Caller(owner="", client=address)
    if credentials is None:
        raise ApiError(401, "This server asks for an API key: Authorization: Bearer KEY.", code="missing_api_key")
    owner = ring.owner(credentials.credentials)
    if owner is None:
        raise ApiError(401, "This API key is not known here.", code="invalid_api_key")
    return Caller(owner=owner, client=owner)


Known = Annotated[Caller, Depends(caller)]
