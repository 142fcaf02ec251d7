"""Who is calling: an API key's mark, or nobody in particular where no keys are asked for."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from resonance.errors import ResonanceError
from serve.http.errors import ApiError
from serve.keys import read_keys

_bearer = HTTPBearer(auto_error=False, description="One of the server's API keys, where it asks for them.")


@dataclass(frozen=True, slots=True)
class Caller:
    """`owner` marks whose conversations these are; `client` is whom limits count for."""

    owner: str
    client: str


class KeyRing:
    """The keys that are let in, as hashes: some given, others of a file, which may change while the server runs.

    `open` lets everybody in, and is decided once: a file that loses its last key must not open the server.
    """

    def __init__(self, keys: Sequence[str], file: Path, *, open: bool) -> None:
        self.open = open
        self._given = [_digest(key) for key in keys]
        self._file, self._stamp = file, -1.0
        self._kept: list[bytes] = []
        self._admins: list[bytes] = []

    def owner(self, key: str) -> str | None:
        """The mark of a key that is let in. Every key is compared, each in constant time."""
        self._look()
        digest = _digest(key)
        known = [hmac.compare_digest(digest, each) for each in (*self._given, *self._kept)]
        return digest.hex()[:32] if any(known) else None

    def is_admin(self, key: str) -> bool:
        """Whether a key is one of those that may change what is served."""
        self._look()
        digest = _digest(key)
        known = [hmac.compare_digest(digest, each) for each in self._admins]
        return any(known)

    def _look(self) -> None:
        """Read the file again when it has changed. An unreadable one lets nobody in."""
        stamp = self._file.stat().st_mtime if self._file.is_file() else 0.0
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                keys = read_keys()
                self._kept = [bytes.fromhex(key.sha256) for key in keys]
                self._admins = [bytes.fromhex(key.sha256) for key in keys if key.admin]
            except (ResonanceError, ValueError):
                self._kept = self._admins = []


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


async def caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
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


async def admin(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    known: Annotated[Caller, Depends(caller)],
) -> Caller:
    """The caller of what only an admin key may do, wherever the server listens. Raises ApiError 401 and 403."""
    ring: KeyRing = request.app.state.service.keys
    if credentials is None or not ring.is_admin(credentials.credentials):
        raise ApiError(
            403, "This needs an admin key: `resonance keys add name=NAME admin=true` makes one.", code="not_an_admin"
        )
    return known


Known = Annotated[Caller, Depends(caller)]
Admin = Annotated[Caller, Depends(admin)]
