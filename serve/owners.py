"""The file of owners and their API keys in RESONANCE_HOME: `{"version": 2, "owners": [...]}`, with keys as hashes only.

Conversations belong to an owner's id, which stays the same when keys change. The first version of the file was a list
of keys, and a key's hash was its owner's id. Such a file is read as owners with these ids; the next change rewrites it.
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
LOCK_SECONDS = 10.0  # that a change waits for another process's change


class KeysError(ResonanceError):
    """A key cannot be made, read or revoked."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key, as its SHA-256 in hexadecimal. It is invalid after `expires_at` (RFC 3339)."""

    sha256: str
    created_at: str
    admin: bool = False
    expires_at: str | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether the key has not expired."""
        return self.expires_at is None or now < datetime.fromisoformat(self.expires_at)


@dataclass(frozen=True, slots=True)
class Owner:
    """An owner of conversations. Without a valid key nobody can read them."""

    id: str
    name: str
    keys: tuple[ApiKey, ...] = ()


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """A key of RESONANCE_API_KEYS. A key without a name is an owner by itself."""

    key: str
    name: str | None = None

    def owner_id(self, owners: Sequence[Owner]) -> str:
        """The id of the key's owner; `owners` are those of the file, where a name may have another id."""
        if self.name is None:
            return owner_id_of_key(key_digest(self.key))
        return next((owner.id for owner in owners if owner.name == self.name), owner_id_of_name(self.name))


def keys_file() -> Path:
    """The path of the file."""
    return home() / "api-keys.json"


def key_digest(key: str) -> bytes:
    """The SHA-256 of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def owner_id_of_key(digest: bytes) -> str:
    """The id of an owner that is known by one key only."""
    return digest.hex()[:32]


def owner_id_of_name(name: str) -> str:
    """The id of a new owner: a hash of the name, so that a lost keys file can be made again for the same database."""
    return f"own-{hashlib.sha256(f'owner {name}'.encode()).hexdigest()[:20]}"


def read_owners(path: Path | None = None) -> list[Owner]:
    """All owners, oldest first. Raises KeysError when the file is invalid."""
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
    """Lock the file and yield its owners, to be changed in place; write them when the block ends. Raises KeysError."""
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
    """The keys of RESONANCE_API_KEYS: KEY or NAME:KEY, comma-separated. Raises KeysError, which names no key."""
    keys: dict[str, EnvironmentKey] = {}
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
        if keys.setdefault(entry.key, entry) != entry:
            raise KeysError(f"Key {number} of RESONANCE_API_KEYS stands there twice, for different owners.")
    return tuple(keys.values())


def owner_names(owners: Sequence[Owner], environment_keys: Sequence[EnvironmentKey]) -> dict[str, str]:
    """The names of all owners by id, those of the environment included."""
    names = {owner.id: owner.name for owner in owners}
    for key in environment_keys:
        names.setdefault(key.owner_id(owners), key.name or "(a key of RESONANCE_API_KEYS without a name)")
    return names


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
    key.is_valid(datetime.now(UTC))  # raises ValueError for an invalid time
    return key
