"""`resonance keys`: who may use a server, and with which keys.

A key is shown once, when it is made; from then on only its hash is known.
"""

import os
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from omegaconf import OmegaConf
from rich.table import Table

from resonance.hydra_config import compose
from serve.console import show_table
from serve.owners import (
    NAME,
    ApiKey,
    EnvironmentKey,
    KeysError,
    Owner,
    edit_owners,
    key_digest,
    owner_id_of_key,
    owner_id_of_name,
    parse_environment_keys,
    read_owners,
)

ACTIONS = ("add", "rotate", "revoke", "list", "claim")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SHOWN = 12  # hexadecimal digits of a key's hash
MAY_USE, MAY_MANAGE = "use", "use, load and unload models"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    action: str
    name: str | None
    admin: bool
    another: bool
    key: str | None
    grace: timedelta | None
    source: str | None
    store_url: str | None


def main(overrides: list[str]) -> None:
    """Change or list keys and owners. Raises ResonanceError for a name that is taken or unknown."""
    config = compose("keys", [_as_text(override) for override in overrides])
    asked = _read(cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True)))
    given = parse_environment_keys(os.environ.get("RESONANCE_API_KEYS", ""))
    match asked.action:
        case "list":
            _show(read_owners(), given)
        case "claim":
            from serve.claim import claim, show_unclaimed  # the database's libraries are only needed here

            if asked.name is None:
                show_unclaimed(asked.store_url, owner_names(read_owners(), given))
            else:
                claim(asked.store_url, owner_names(read_owners(), given), asked.name, asked.source)
        case "add":
            _add(_named(asked), asked.admin, asked.another)
        case "rotate":
            _rotate(_named(asked), asked.key, asked.grace)
            _warn_of_given(asked, given)
        case _:
            _revoke(_named(asked), asked.key)
            _warn_of_given(asked, given)


def owner_names(owners: Sequence[Owner], given: Sequence[EnvironmentKey]) -> dict[str, str]:
    """The names of all owners by id; a key of the environment that has no name is its own owner."""
    names = {owner.id: owner.name for owner in owners}
    ids = {owner.name: owner.id for owner in owners}
    for entry in given:
        if entry.name is None:
            names.setdefault(owner_id_of_key(key_digest(entry.key)), "(a key of RESONANCE_API_KEYS without a name)")
        else:
            names.setdefault(ids.get(entry.name) or owner_id_of_name(entry.name), entry.name)
    return names


def _as_text(override: str) -> str:
    """A name or the beginning of a hash in quotes: 1e9 is no number there."""
    key, _, value = override.partition("=")
    if key not in ("name", "key", "from") or value in ("", "null") or value[0] in "\"'":
        return override
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def _read(values: dict[str, Any]) -> Request:
    action = values["action"]
    if action not in ACTIONS:
        raise KeysError(f"action must be one of {', '.join(ACTIONS)}, not {action!r}.")
    for name in ("admin", "another"):
        if not isinstance(values[name], bool):
            raise KeysError(f"{name} must be true or false, not {values[name]!r}.")
    text = {name: None if values[name] is None else str(values[name]) for name in ("name", "key", "from", "grace")}
    for option, actions in {
        "admin": ("add",), "another": ("add",), "key": ("rotate", "revoke"), "grace": ("rotate",), "from": ("claim",),
    }.items():  # fmt: skip
        if values[option] and action not in actions:
            raise KeysError(f"{option} means nothing to `keys {action}`; it is for `keys {' and '.join(actions)}`.")
    return Request(
        action=action,
        name=text["name"] or None,
        admin=values["admin"],
        another=values["another"],
        key=text["key"],
        grace=_duration(text["grace"]),
        source=text["from"],
        store_url=values["store"]["url"] or os.environ.get("DATABASE_URL") or None,
    )


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if found is None:
        raise KeysError(f"grace must be a time such as 30m, 1h or 7d, not {text!r}.")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def _named(asked: Request) -> str:
    if asked.name is None:
        raise KeysError(f"A key has a name, its owner's: resonance keys {asked.action} NAME.")
    return asked.name


def _add(name: str, admin: bool, another: bool) -> None:
    with edit_owners() as owners:
        known = next((owner for owner in owners if owner.name == name), None)
        if known is None and not NAME.fullmatch(name):
            raise KeysError(f"A name has 1 to 64 letters, digits, and _ . @ -, unlike {name!r}.")
        if known is not None and _valid(known) and not another:
            raise KeysError(
                f"{name} has a key already: `resonance keys rotate {name}` replaces it, another=true adds one more."
            )
        secret, key = _new_key(admin)
        owner = known or Owner(owner_id_of_name(name), name)
        changed = replace(owner, keys=(*_valid(owner), key))
        if known is None:
            owners.append(changed)
        else:
            owners[owners.index(known)] = changed
    print(secret)
    if known is not None and not another:
        _note(f"{name} is known: this key opens what {name} has written before.")
    elif len(owners) == 1:
        _note(
            "This is the first owner. A server with auth=auto asks for keys from now on; "
            f"`resonance keys claim {name}` gives {name} what was written without keys."
        )


def _rotate(name: str, prefix: str | None, grace: timedelta | None) -> None:
    with edit_owners() as owners:
        owner = _find(owners, name)
        old = _chosen(owner, prefix)
        if not old:
            raise KeysError(f"{name} has no key that could be replaced; resonance keys add {name} makes one.")
        secret, new = _new_key(any(key.admin for key in old))
        kept: list[ApiKey] = []
        for key in _valid(owner):
            if key not in old:
                kept.append(key)
            elif grace is not None:
                until = _time(datetime.now(UTC) + grace)
                kept.append(replace(key, expires_at=min(until, key.expires_at or until)))
        owners[owners.index(owner)] = replace(owner, keys=(*kept, new))
    print(secret)
    replaced = "1 key" if len(old) == 1 else f"{len(old)} keys"
    _note(f"It replaces {replaced} of {name}" + ("." if grace is None else f", let in until {_time(_now() + grace)}."))


def _revoke(name: str, prefix: str | None) -> None:
    with edit_owners() as owners:
        owner = _find(owners, name)
        revoked = _chosen(owner, prefix)
        if not revoked:
            raise KeysError(f"{name} has no key, so there is none to revoke.")
        left = tuple(key for key in _valid(owner) if key not in revoked)
        owners[owners.index(owner)] = replace(owner, keys=left)
    keys = "The key" if len(revoked) == 1 else f"All {len(revoked)} keys"
    print(f"{keys} of {name} {'is' if len(revoked) == 1 else 'are'} revoked; {_left(len(left))}")
    if not any(_valid(owner) for owner in owners):
        _note("No owner has a key now; a server with auth=auto goes on asking for one, also when it starts anew.")


def _warn_of_given(asked: Request, given: Sequence[EnvironmentKey]) -> None:
    """Say that a key of the environment goes on being let in; this command cannot take it back."""
    if asked.key is None and any(entry.name == asked.name for entry in given):
        _note(f"{asked.name} has a key in RESONANCE_API_KEYS too; it is let in until it is taken out there.")


def _left(count: int) -> str:
    if count:
        return f"{count} more {'is' if count == 1 else 'are'} valid."
    return "the conversations stay, and a new key opens them."


def _find(owners: Sequence[Owner], name: str) -> Owner:
    for owner in owners:
        if owner.name == name:
            return owner
    known = ", ".join(sorted(owner.name for owner in owners)) or "none"
    raise KeysError(f"There is no owner {name!r} in this file; there are: {known}.")


def _chosen(owner: Owner, prefix: str | None) -> list[ApiKey]:
    """The valid keys whose hash begins so, or all. Raises KeysError when that is not one."""
    valid = _valid(owner)
    if prefix is None:
        return valid
    found = [key for key in valid if prefix and key.sha256.startswith(prefix.lower())]
    if len(found) != 1:
        known = ", ".join(key.sha256[:SHOWN] for key in valid) or "none"
        how_many = "no key" if not found else f"{len(found)} keys"
        raise KeysError(f"{owner.name} has {how_many} whose hash begins with {prefix!r}; there are: {known}.")
    return found


def _valid(owner: Owner) -> list[ApiKey]:
    return [key for key in owner.keys if key.is_valid(_now())]


def _new_key(admin: bool) -> tuple[str, ApiKey]:
    secret = f"rsn-{secrets.token_urlsafe(32)}"
    return secret, ApiKey(key_digest(secret).hex(), _time(_now()), admin)


def _show(owners: Sequence[Owner], given: Sequence[EnvironmentKey]) -> None:
    table = Table("name", "owner", "key begins", "created", "may", "valid")
    for owner in owners:
        keys = _valid(owner)
        for key in keys:
            until = f"until {key.expires_at}" if key.expires_at else "until revoked"
            may = MAY_MANAGE if key.admin else MAY_USE
            table.add_row(owner.name, owner.id, key.sha256[:SHOWN], key.created_at, may, until)
        if not keys:
            table.add_row(owner.name, owner.id, "no key", "", "", "")
    names = owner_names(owners, given)
    ids = {name: id for id, name in names.items()}
    for entry in given:
        digest = key_digest(entry.key)
        id = owner_id_of_key(digest) if entry.name is None else ids[entry.name]
        table.add_row(
            entry.name or "(no name)", id, digest.hex()[:SHOWN], "RESONANCE_API_KEYS", MAY_USE, "while it is set"
        )
    show_table(table)


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _now() -> datetime:
    return datetime.now(UTC)


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
