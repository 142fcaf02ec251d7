"""`resonance keys`: the API keys that a server lets in, kept as hashes in RESONANCE_HOME.

A key is shown once, when it is made; from then on only its hash is known.
"""

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from resonance.config import compose
from resonance.errors import ResonanceError
from resonance.paths import home, write_text_atomically

ACTIONS = ("add", "list", "revoke")


class KeysError(ResonanceError):
    """A key that cannot be made, read or revoked."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One key: its name, and the SHA-256 of the key itself in hexadecimal."""

    name: str
    sha256: str
    created_at: str
    admin: bool = False


def keys_file() -> Path:
    """Where the keys are kept."""
    return home() / "api-keys.json"


def read_keys() -> list[StoredKey]:
    """All keys, oldest first. Raises KeysError when the file is not ours."""
    path = keys_file()
    if not path.is_file():
        return []
    try:
        return [StoredKey(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise KeysError(
            f"{path} cannot be read as a list of keys ({type(error).__name__}); mend or remove it."
        ) from error


def main(overrides: list[str]) -> None:
    """Add, list or revoke keys. Raises ResonanceError for a name that is taken or unknown."""
    values: Any = OmegaConf.to_container(compose("keys", overrides), resolve=True)
    action, name, admin = values["action"], values["name"], values["admin"]
    if action not in ACTIONS:
        raise KeysError(f"action must be one of {', '.join(ACTIONS)}, not {action!r}.")
    if not isinstance(admin, bool):
        raise KeysError(f"admin must be true or false, not {admin!r}.")
    keys = read_keys()
    if action == "list":
        _show(keys)
        return
    if not name:
        raise KeysError(f"A key has a name: resonance keys {action} name=NAME.")
    known = {key.name for key in keys}
    if action == "add":
        if name in known:
            raise KeysError(f"There is a key {name!r} already; revoke it or choose another name.")
        secret = f"rsn-{secrets.token_urlsafe(32)}"
        _write([*keys, StoredKey(name, hashlib.sha256(secret.encode()).hexdigest(), _now(), admin)])
        print(secret)
        return
    if name not in known:
        raise KeysError(f"There is no key {name!r}; there are: {', '.join(sorted(known)) or 'none'}.")
    _write([key for key in keys if key.name != name])
    print(f"The key {name} is revoked.")


def _write(keys: list[StoredKey]) -> None:
    path = keys_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps([asdict(key) for key in keys], indent=2) + "\n")
    path.chmod(0o600)


def _show(keys: list[StoredKey]) -> None:
    table = Table("name", "created", "may", "sha256 begins")
    for key in keys:
        table.add_row(key.name, key.created_at, "use, load and unload models" if key.admin else "use", key.sha256[:12])
    Console().print(table)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
