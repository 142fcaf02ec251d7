"""Owners and their API keys in one file of RESONANCE_HOME: `{"version": 2, "owners": [...]}`, keys as hashes only.

Conversations belong to an owner's id, which stays when keys change. The first version of the file was a list of keys,
and a key's hash was the owner's id: such a file is read as owners with that id, and rewritten by the next change.
"""

import hashlib
import json
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout

from resonance.atomic_files import write_text_atomically
from resonance.errors import ResonanceError
from resonance.paths import home
from resonance.private_files import FILE, private_folder

VERSION = 2
NAME = re.compile(r"[\w.@-]{1,64}")
LOCK_SECONDS = 10.0  # how long a change waits for another process's change


class KeysError(ResonanceError):
    """A key that cannot be made, read or revoked."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: the SHA-256 of the key itself in hexadecimal. After `expires_at` (RFC 3339) it is not valid."""

    sha256: str
    created_at: str
    admin: bool = False
    expires_at: str | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether the key has not expired."""
        return self.expires_at is None or now < datetime.fromisoformat(self.expires_at)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose conversations these are; without keys nobody can reach them until a key is added again."""

    id: str
    name: str
    keys: tuple[ApiKey, ...] = ()


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """A key of RESONANCE_API_KEYS; without a name its owner is the key itself."""

    key: str
    name: str | None = None


def keys_file() -> Path:
    """Where the keys are kept."""
    return home() / "api-keys.json"


def key_digest(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def owner_id_of_key(digest: bytes) -> str:
    """The id of an owner who is known by one key only."""
    return digest.hex()[:32]


def owner_id_of_name(name: str) -> str:
    """The id of a new owner. It follows from the name, so that a database finds its owners when a keys file is lost."""
    return f"own-{hashlib.sha256(f'owner {name}'.encode()).hexdigest()[:20]}"


def read_owners(path: Path | None = None) -> list[Owner]:
    """All owners, oldest first. Raises KeysError when the file is not ours."""
    path = path or keys_file()
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
        return _owners(content)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise KeysError(
            f"{path} cannot be read as a list of keys ({type(error).__name__}); mend or remove it."
        ) from error


@contextmanager
def edit_owners() -> Generator[list[Owner]]:
    """The owners, to be changed in place: they are written when the block ends, and other processes wait. KeysError."""
    path = keys_file()
    try:
        private_folder(path.parent)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS, mode=FILE):
            owners = read_owners(path)
            yield owners
            document = {"version": VERSION, "owners": [asdict(owner) for owner in owners]}
            write_text_atomically(path, json.dumps(document, indent=2) + "\n", mode=FILE)
    except Timeout:
        raise KeysError(f"Another process has been changing {path} for {LOCK_SECONDS:g} s; try again.") from None
    except OSError as error:
        raise KeysError(f"{path} cannot be written: {error.strerror or error}.") from error


def parse_environment_keys(text: str) -> tuple[EnvironmentKey, ...]:
    """The keys of RESONANCE_API_KEYS: KEY or NAME:KEY, comma-separated. Raises KeysError, which shows no key."""
    given: dict[str, EnvironmentKey] = {}
    for number, part in enumerate((part.strip() for part in text.split(",")), start=1):
        if not part:
            continue
        name, colon, key = part.partition(":")
        entry = EnvironmentKey(key, name) if colon else EnvironmentKey(part)
        if colon and not NAME.fullmatch(name):
            raise KeysError(
                f"Key {number} of RESONANCE_API_KEYS has no owner's name before its colon (letters, digits, "
                "and _ . @ -); write NAME:KEY, also where the key itself has a colon in it."
            )
        if not entry.key:
            raise KeysError(f"RESONANCE_API_KEYS has no key behind {name}:; write {name}:KEY.")
        if given.setdefault(entry.key, entry) != entry:
            raise KeysError(f"Key {number} of RESONANCE_API_KEYS stands there twice, for different owners.")
    return tuple(given.values())


def _owners(content: object) -> list[Owner]:
    if isinstance(content, list):
        return [_owner_of_key(entry) for entry in cast(Sequence[Mapping[str, Any]], content)]
    document = cast(Mapping[str, Any], content)
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']}")
    return [_owner(entry) for entry in cast(Sequence[Mapping[str, Any]], document["owners"])]


def _owner(entry: Mapping[str, Any]) -> Owner:
    keys = tuple(_key(key) for key in entry["keys"])
    return Owner(str(entry["id"]), str(entry["name"]), keys)


def _owner_of_key(entry: Mapping[str, Any]) -> Owner:
    """An entry of the first version: `{"name", "sha256", "created_at", "admin"}`."""
    fields = dict(entry)
    name = str(fields.pop("name"))
    key = _key(fields)
    return Owner(owner_id_of_key(bytes.fromhex(key.sha256)), name, (key,))


def _key(entry: Mapping[str, Any]) -> ApiKey:
    key = ApiKey(**entry)
    bytes.fromhex(key.sha256)
    key.is_valid(datetime.now(UTC))  # raises for a time that is none
    return key
