"""Authentication: the caller of a request is the owner of its API key, or nobody where no keys are required."""

import hmac
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from resonance.errors import ResonanceError
from serve.api.errors import ApiError
from serve.owners import ApiKey, EnvironmentKey, Owner, key_digest, owner_id_of_key, read_owners

log = logging.getLogger("resonance.serve")
CHECK_INTERVAL = 0.5  # seconds between two checks of the file on behalf of running answers
_bearer = HTTPBearer(auto_error=False, description="One of the server's API keys, where it asks for them.")


@dataclass(frozen=True, slots=True)
class Caller:
    """`owner` is the id of the conversations' owner, `client` the key of rate limits, `key` the API key's hash."""

    owner: str
    client: str
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key and its owner's id."""

    digest: bytes
    owner: str
    stored: ApiKey | None = None  # None: a key of RESONANCE_API_KEYS

    def is_valid(self) -> bool:
        """Whether it has not expired."""
        return self.stored is None or self.stored.is_valid(datetime.now(UTC))

    def is_admin(self) -> bool:
        """Whether it may change the served models."""
        return self.stored is not None and self.stored.admin


class KeyRing:
    """The valid API keys: those of the environment, and those of a file that may change while the server runs.

    An `open` ring lets everybody in. With `closes` it requires keys as soon as there are some, and stays closed: a file
    that loses its last key must not open the server.
    """

    def __init__(self, environment: Sequence[EnvironmentKey], file: Path, *, open: bool, closes: bool = True) -> None:
        self._open, self._closes = open, closes
        self._environment, self._file = tuple(environment), file
        self._file_version: tuple[int, ...] | None = ()
        self._checked_at = 0.0
        self._keys: list[KnownKey] = []
        self._warned = False

    @property
    def open(self) -> bool:
        """Whether everybody is let in."""
        if self._open:
            self.refresh()
        return self._open

    def find(self, key: str) -> KnownKey | None:
        """The valid key that equals `key`. It is compared with every known key, each in constant time."""
        self.refresh()
        digest = key_digest(key)
        same = [known for known in self._keys if hmac.compare_digest(digest, known.digest)]
        return next((known for known in same if known.is_valid()), None)

    def owner(self, key: str) -> str | None:
        """The id of a valid key's owner."""
        found = self.find(key)
        return None if found is None else found.owner

    def is_admin(self, key: str) -> bool:
        """Whether a key is valid and may change the served models."""
        found = self.find(key)
        return found is not None and found.is_admin()

    def authenticate(self, authorization: str | None, address: str) -> Caller:
        """The caller, by a request's Authorization header and address. Raises ApiError 401."""
        if self.open:
            return Caller(owner="", client=address)
        scheme, key = get_authorization_scheme_param(authorization)
        if scheme.lower() != "bearer" or not key:
            raise ApiError(401, "This server asks for an API key: Authorization: Bearer KEY.", code="missing_api_key")
        found = self.find(key)
        if found is None:
            raise ApiError(401, "This API key is not known here.", code="invalid_api_key")
        return Caller(owner=found.owner, client=found.owner, key=found.digest)

    def is_still_valid(self, key: bytes) -> bool:
        """Whether the key with this hash is valid. An empty hash is: the request came while the server was open."""
        if time.monotonic() > self._checked_at + CHECK_INTERVAL:
            self.refresh()
        return not key or any(known.digest == key and known.is_valid() for known in self._keys)

    def renamed_owners(self) -> dict[str, str]:
        """The owners of the environment's keys by the ids that they had while their keys had no names."""
        self.refresh()
        ids = {owner_id_of_key(known.digest): known.owner for known in self._keys if known.stored is None}
        return {former: owner for former, owner in ids.items() if former != owner}

    def refresh(self) -> None:
        """Read the file again when it has changed. While it cannot be read, its keys are invalid."""
        self._checked_at = time.monotonic()
        version = self._version_of_file()
        if version == self._file_version:
            return
        self._file_version = version
        owners: list[Owner] = []
        try:
            owners = read_owners(self._file)
        except ResonanceError as error:
            log.error("%s Until then its keys are not let in.", error)
        self._keys = _known_keys(owners, self._environment)
        if self._keys and self._open:
            self._close_or_warn()

    def _version_of_file(self) -> tuple[int, ...] | None:
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _close_or_warn(self) -> None:
        if self._closes:
            self._open = False
            log.warning(
                "there are API keys now, so every request needs one from here on (auth=auto); what was written without "
                "keys belongs to nobody until `resonance keys claim NAME` gives it to somebody"
            )
        elif not self._warned:
            self._warned = True
            log.warning("there are API keys, but auth=none: everybody is let in without one")


def _known_keys(owners: Sequence[Owner], environment: Sequence[EnvironmentKey]) -> list[KnownKey]:
    """All keys. A nameless key of the environment that is in the file as well belongs to its owner in the file."""
    known = [KnownKey(bytes.fromhex(key.sha256), owner.id, key) for owner in owners for key in owner.keys]
    stored = {key.digest for key in known}
    for key in environment:
        digest = key_digest(key.key)
        if key.name is not None or digest not in stored:
            known.append(KnownKey(digest, key.owner_id(owners)))
    return known


async def caller(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    """The caller of a request. Raises ApiError 401 without a valid key, where keys are required."""
    ring: KeyRing = request.app.state.service.keys
    address = request.client.host if request.client else "unknown"
    return ring.authenticate(request.headers.get("authorization"), address)


async def admin(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    known: Annotated[Caller, Depends(caller)],
) -> Caller:
    """The caller of an admin endpoint, which needs an admin key even on an open server. Raises ApiError 401 and 403."""
    ring: KeyRing = request.app.state.service.keys
    if credentials is None or not ring.is_admin(credentials.credentials):
        raise ApiError(
            403, "This needs an admin key: `resonance keys add NAME admin=true` makes one.", code="not_an_admin"
        )
    return known


CallerDep = Annotated[Caller, Depends(caller)]
AdminDep = Annotated[Caller, Depends(admin)]
