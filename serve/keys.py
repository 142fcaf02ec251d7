"""`resonance keys`: add, rotate, revoke and list API keys, and claim the conversations of another owner.

A key is printed once, when it is made; only its hash is stored.
"""

import os
import re
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from resonance.hydra_config import compose
from serve.owners import (
    NAME,
    ApiKey,
    EnvironmentKey,
    KeysError,
    Owner,
    edit_owners,
    key_digest,
    owner_id_of_name,
    owner_names,
    parse_environment_keys,
    read_owners,
)

if TYPE_CHECKING:
    from serve.storage.ownership import Amount
    from serve.storage.store import Store

ACTIONS = ("add", "rotate", "revoke", "list", "claim")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
HASH_DIGITS = 12  # shown of a key's hash, in hexadecimal
PIPED_WIDTH = 150  # columns of a table that is not printed on a terminal
NOBODY = ""  # the owner of what was written without keys
USER, ADMIN = "use", "use, load and unload models"
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    action: str
    name: str | None
    admin: bool
    another: bool
    key: str | None
    grace: timedelta | None
    source: str | None
    store_url: str | None

    def required_name(self) -> str:
        """The owner's name. Raises KeysError where there is none."""
        if self.name is None:
            raise KeysError(f"A key has a name, its owner's: resonance keys {self.action} NAME.")
        return self.name


def main(overrides: list[str]) -> None:
    """Change or list keys and owners. Raises ResonanceError for a name that is taken or unknown."""
    config = compose("keys", [_quoted(override) for override in overrides])
    options = _options(cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True)))
    environment_keys = parse_environment_keys(os.environ.get("RESONANCE_API_KEYS", ""))
    match options.action:
        case "list":
            _list(read_owners(), environment_keys)
        case "claim":
            names = owner_names(read_owners(), environment_keys)
            if options.name is None:
                _list_unclaimed(options.store_url, names)
            else:
                _claim(options.store_url, names, options.name, options.source)
        case "add":
            _add(options.required_name(), options.admin, options.another)
        case "rotate":
            _rotate(options.required_name(), options.key, options.grace)
            _warn_of_environment(options, environment_keys)
        case _:
            _revoke(options.required_name(), options.key)
            _warn_of_environment(options, environment_keys)


def _quoted(override: str) -> str:
    """An override with a name or the prefix of a hash in quotes: Hydra would read 1e9 as a number."""
    key, _, value = override.partition("=")
    if key not in ("name", "key", "from") or value in ("", "null") or value[0] in "\"'":
        return override
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def _options(values: dict[str, Any]) -> Options:
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
    return Options(
        action=action,
        name=text["name"] or None,
        admin=values["admin"],
        another=values["another"],
        key=text["key"],
        grace=_duration(text["grace"]),
        source=text["from"],
        store_url=values["store"]["url"],
    )


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise KeysError(f"grace must be a time such as 30m, 1h or 7d, not {text!r}.")
    return timedelta(seconds=int(match[1]) * UNITS[match[2]])


def _add(name: str, admin: bool, another: bool) -> None:
    with edit_owners() as owners:
        known = next((owner for owner in owners if owner.name == name), None)
        if known is None and not NAME.fullmatch(name):
            raise KeysError(f"A name has 1 to 64 letters, digits, and _ . @ -, unlike {name!r}.")
        if known is not None and _valid_keys(known) and not another:
            raise KeysError(
                f"{name} has a key already: `resonance keys rotate {name}` replaces it, another=true adds one more."
            )
        secret, key = _new_key(admin)
        owner = known or Owner(owner_id_of_name(name), name)
        changed = replace(owner, keys=(*_valid_keys(owner), key))
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
        old = _keys_by_hash(owner, prefix)
        if not old:
            raise KeysError(f"{name} has no key that could be replaced; resonance keys add {name} makes one.")
        secret, new = _new_key(any(key.admin for key in old))
        kept: list[ApiKey] = []
        for key in _valid_keys(owner):
            if key not in old:
                kept.append(key)
            elif grace is not None:
                until = _rfc3339(datetime.now(UTC) + grace)
                kept.append(replace(key, expires_at=min(until, key.expires_at or until)))
        owners[owners.index(owner)] = replace(owner, keys=(*kept, new))
    print(secret)
    replaced = "1 key" if len(old) == 1 else f"{len(old)} keys"
    until = "" if grace is None else f", let in until {_rfc3339(datetime.now(UTC) + grace)}"
    _note(f"It replaces {replaced} of {name}{until}.")


def _revoke(name: str, prefix: str | None) -> None:
    with edit_owners() as owners:
        owner = _find(owners, name)
        revoked = _keys_by_hash(owner, prefix)
        if not revoked:
            raise KeysError(f"{name} has no key, so there is none to revoke.")
        left = tuple(key for key in _valid_keys(owner) if key not in revoked)
        owners[owners.index(owner)] = replace(owner, keys=left)
    subject = f"The key of {name} is" if len(revoked) == 1 else f"All {len(revoked)} keys of {name} are"
    if left:
        print(f"{subject} revoked; {len(left)} more {'is' if len(left) == 1 else 'are'} valid.")
    else:
        print(f"{subject} revoked; the conversations stay, and a new key opens them.")
    if not any(_valid_keys(owner) for owner in owners):
        _note("No owner has a key now; a server with auth=auto goes on asking for one, also when it starts anew.")


def _warn_of_environment(options: Options, environment_keys: Sequence[EnvironmentKey]) -> None:
    """Warn that the owner has a key in the environment, which this command cannot revoke."""
    if options.key is None and any(key.name == options.name for key in environment_keys):
        _note(f"{options.name} has a key in RESONANCE_API_KEYS too; it is let in until it is taken out there.")


def _find(owners: Sequence[Owner], name: str) -> Owner:
    for owner in owners:
        if owner.name == name:
            return owner
    known = ", ".join(sorted(owner.name for owner in owners)) or "none"
    raise KeysError(f"There is no owner {name!r} in this file; there are: {known}.")


def _keys_by_hash(owner: Owner, prefix: str | None) -> list[ApiKey]:
    """The valid key whose hash has this prefix, or all keys. Raises KeysError where it is not exactly one."""
    valid = _valid_keys(owner)
    if prefix is None:
        return valid
    found = [key for key in valid if prefix and key.sha256.startswith(prefix.lower())]
    if len(found) != 1:
        known = ", ".join(key.sha256[:HASH_DIGITS] for key in valid) or "none"
        count = "no key" if not found else f"{len(found)} keys"
        raise KeysError(f"{owner.name} has {count} whose hash begins with {prefix!r}; there are: {known}.")
    return found


def _valid_keys(owner: Owner) -> list[ApiKey]:
    return [key for key in owner.keys if key.is_valid(datetime.now(UTC))]


def _new_key(admin: bool) -> tuple[str, ApiKey]:
    secret = f"rsn-{secrets.token_urlsafe(32)}"
    return secret, ApiKey(key_digest(secret).hex(), _rfc3339(datetime.now(UTC)), admin)


def _list(owners: Sequence[Owner], environment_keys: Sequence[EnvironmentKey]) -> None:
    table = Table("name", "owner", "key begins", "created", "may", "valid")
    for owner in owners:
        keys = _valid_keys(owner)
        for key in keys:
            until = f"until {key.expires_at}" if key.expires_at else "until revoked"
            role = ADMIN if key.admin else USER
            table.add_row(owner.name, owner.id, key.sha256[:HASH_DIGITS], key.created_at, role, until)
        if not keys:
            table.add_row(owner.name, owner.id, "no key", "", "", "")
    for key in environment_keys:
        digits = key_digest(key.key).hex()[:HASH_DIGITS]
        name = key.name or "(no name)"
        table.add_row(name, key.owner_id(owners), digits, "RESONANCE_API_KEYS", USER, "while it is set")
    _print_table(table)


def _list_unclaimed(url: str | None, names: Mapping[str, str]) -> None:
    """Print what belongs to no known owner; `names` are the known owners' names by id."""
    from serve.storage.ownership import holdings

    unclaimed = [holding for holding in _with_store(url, holdings) if holding.owner not in names]
    if not unclaimed:
        print("Everything that is stored belongs to an owner with a name or a key.")
        return
    table = Table("from", "conversations", "messages", "votes", "latest", "written")
    for holding in unclaimed:
        counts = map(str, (holding.amount.conversations, holding.amount.messages, holding.amount.votes))
        latest = "" if holding.latest is None else f"{holding.latest:%Y-%m-%d %H:%M}"
        written = "without keys" if holding.owner == NOBODY else "with a key that is not known any more"
        table.add_row(holding.owner or "(nobody)", *counts, latest, written)
    _print_table(table)
    print("`resonance keys claim NAME [from=OWNER]` gives it to NAME.")


def _claim(url: str | None, names: Mapping[str, str], name: str, source: str | None) -> None:
    """Move what `source` (a name, an id, or None: nobody) has to the owner `name`, and print how much it was."""
    from serve.storage.ownership import holdings, move

    ids = {known: id for id, known in names.items()}
    if name not in ids:
        raise KeysError(
            f"There is no owner {name!r}; there are: {', '.join(sorted(ids)) or 'none'}. `resonance keys add {name}` "
            "makes one."
        )
    source_id = NOBODY if source is None else ids.get(source, source)
    if source_id == ids[name]:
        raise KeysError(f"What {source} has is {name}'s already.")
    if source is not None and source_id not in [holding.owner for holding in _with_store(url, holdings)]:
        raise KeysError(f"Nothing that is stored belongs to {source!r}; `resonance keys claim` lists what there is.")
    moved = _with_store(url, lambda store: move(store, source_id, ids[name]))
    what = "were written without keys" if source is None else f"belonged to {source}"
    if moved:
        print(f"{name} has {_in_words(moved)} now that {what}.")
    else:
        print(f"There is nothing to claim: no conversations and no votes {what}.")


def _in_words(amount: "Amount") -> str:
    counts = {"conversation": amount.conversations, "message": amount.messages, "vote": amount.votes}
    if amount.documents:
        counts["document"] = amount.documents
    words = [f"{count} {noun if count == 1 else noun + 's'}" for noun, count in counts.items()]
    return f"{words[0]} with {words[1]} and {' and '.join(words[2:])}"


def _with_store(url: str | None, work: "Callable[[Store], Awaitable[Result]]") -> Result:
    from serve.storage.offline import with_store  # the database's libraries are needed by `claim` alone

    return with_store(url, work)


def _print_table(table: Table) -> None:
    """Print a table; a pipe or file gets its rows unwrapped."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    console.print(table, markup=False)


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
