"""Who is calling: an API key's owner, or nobody in particular where no keys are asked for."""

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
from serve.owners import ApiKey, EnvironmentKey, Owner, key_digest, owner_id_of_key, owner_id_of_name, read_owners

log = logging.getLogger("resonance.serve")
LOOK_EVERY = 0.5  # seconds between two looks at the file for the sake of answers that are under way
_bearer = HTTPBearer(auto_error=False, description="One of the server's API keys, where it asks for them.")


@dataclass(frozen=True, slots=True)
class Caller:
    """`owner` is the id of whose conversations these are; `client` is whom limits count for; `key` is a key's hash."""

    owner: str
    client: str
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that is let in, and whose it is."""

    digest: bytes
    owner: str
    stored: ApiKey | None = None  # None: of RESONANCE_API_KEYS

    def is_valid(self) -> bool:
        """Whether it has not expired."""
        return self.stored is None or self.stored.is_valid(datetime.now(UTC))

    def is_admin(self) -> bool:
        """Whether it may change what is served."""
        return self.stored is not None and self.stored.admin


class KeyRing:
    """The keys that are let in: some given, others of a file, which may change while the server runs.

    An `open` ring lets everybody in. One that `closes` asks for keys from the moment that there are some, and stays
    so: a file that loses its last key must not open the server.
    """

    def __init__(self, given: Sequence[EnvironmentKey], file: Path, *, open: bool, closes: bool = True) -> None:
        self._open, self._closes = open, closes
        self._given, self._file = tuple(given), file
        self._stamp: tuple[int, ...] | None = ()
        self._looked_at = 0.0
        self._keys: list[KnownKey] = []
        self._told = False

    @property
    def open(self) -> bool:
        """Whether everybody is let in."""
        if self._open:
            self.refresh()
        return self._open

    def find(self, key: str) -> KnownKey | None:
        """The key if it is let in. Every known key is compared, each in constant time."""
        self.refresh()
        digest = key_digest(key)
        same = [known for known in self._keys if hmac.compare_digest(digest, known.digest)]
        return next((known for known in same if known.is_valid()), None)

    def owner(self, key: str) -> str | None:
        """The id of the owner of a key that is let in."""
        found = self.find(key)
        return None if found is None else found.owner

    def is_admin(self, key: str) -> bool:
        """Whether a key is one of those that may change what is served."""
        found = self.find(key)
        return found is not None and found.is_admin()

    def authenticate(self, authorization: str | None, address: str) -> Caller:
        """The caller, by a request's Authorization header and where it comes from. Raises ApiError 401."""
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
        """Whether the key with this hash is let in as before; without one the caller came while the server was open."""
        if time.monotonic() > self._looked_at + LOOK_EVERY:
            self.refresh()
        return not key or any(known.digest == key and known.is_valid() for known in self._keys)

    def renamed_owners(self) -> dict[str, str]:
        """Owner ids by those under which owners may have written while RESONANCE_API_KEYS gave their keys no names."""
        self.refresh()
        ids = {owner_id_of_key(known.digest): known.owner for known in self._keys if known.stored is None}
        return {former: owner for former, owner in ids.items() if former != owner}

    def refresh(self) -> None:
        """Read the file again when it has changed. An unreadable one lets nobody in."""
        self._looked_at = time.monotonic()
        stamp = self._stamp_of_file()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        owners: list[Owner] = []
        try:
            owners = read_owners(self._file)
        except ResonanceError as error:
            log.error("%s Until then its keys are not let in.", error)
        self._keys = known_keys(owners, self._given)
        if self._keys and self._open:
            self._tell()

    def _stamp_of_file(self) -> tuple[int, ...] | None:
        try:
            stat = self._file.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _tell(self) -> None:
        if self._closes:
            self._open = False
            log.warning(
                "there are API keys now, so every request needs one from here on (auth=auto); what was written without "
                "keys belongs to nobody until `resonance keys claim NAME` gives it to somebody"
            )
        elif not self._told:
            self._told = True
            log.warning("there are API keys, but auth=none: everybody is let in without one")


def known_keys(owners: Sequence[Owner], given: Sequence[EnvironmentKey]) -> list[KnownKey]:
    """All keys; one that stands in the file and is given without a name belongs to its owner in the file."""
    ids = {owner.name: owner.id for owner in owners}
    kept = [KnownKey(bytes.fromhex(key.sha256), owner.id, key) for owner in owners for key in owner.keys]
    stored = {known.digest for known in kept}
    for entry in given:
        digest = key_digest(entry.key)
        if entry.name is not None:
            kept.append(KnownKey(digest, ids.get(entry.name) or owner_id_of_name(entry.name)))
        elif digest not in stored:
            kept.append(KnownKey(digest, owner_id_of_key(digest)))
    return kept


async def caller(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    """The caller of a request. Raises ApiError 401 without a key that is let in."""
    ring: KeyRing = request.app.state.service.keys
    address = request.client.host if request.client else "unknown"
    return ring.authenticate(request.headers.get("authorization"), address)


async def admin(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    known: Annotated[Caller, Depends(caller)],
) -> Caller:
    """The caller of what only an admin key may do, wherever the server listens. Raises ApiError 401 and 403."""
    ring: KeyRing = request.app.state.service.keys
    if credentials is None or not ring.is_admin(credentials.credentials):
        raise ApiError(
            403, "This needs an admin key: `resonance keys add NAME admin=true` makes one.", code="not_an_admin"
        )
    return known


CallerDep = Annotated[Caller, Depends(caller)]
AdminDep = Annotated[Caller, Depends(admin)]
