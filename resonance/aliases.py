"""Aliases of checkpoints: names such as `production`, moved from one run to the next, with a log of every move.

They are kept in `aliases.json` in the folder of the runs. An entry records the checksum of the weights that were
promoted: a run that has trained on since then is no longer what was promoted, and is not found by the alias.
"""

import getpass
import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from resonance.atomic_files import write_text_atomically
from resonance.errors import ResonanceError
from resonance.provenance import now

ALIASES_FILE = "aliases.json"
PRODUCTION = "production"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


class AliasError(ResonanceError):
    """An alias that cannot be moved or read."""


@dataclass(frozen=True, slots=True)
class Move:
    """One entry of an alias's log: it names `run` from now on."""

    run: str  # the run's folder under the folder of the runs
    crc32: str  # of the run's weights
    at: str  # RFC 3339, UTC
    by: str  # the user of the operating system
    before: str | None = None  # the run that the alias named before
    back: bool = False  # whether it went back to an earlier run
    evidence: Mapping[str, Any] = field(
        default_factory=dict[str, Any]
    )  # what speaks for the run, `verified` for example


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias and its log, oldest move first."""

    name: str
    log: tuple[Move, ...]

    @property
    def current(self) -> Move:
        """The newest move."""
        return self.log[-1]

    @property
    def earlier(self) -> tuple[Move, ...]:
        """The promotions before the present one, newest first, without those that were taken back."""
        stack: list[Move] = []
        for move in self.log:
            if move.back:
                while (stack[-1].run, stack[-1].crc32) != (move.run, move.crc32):
                    stack.pop()
            else:
                stack.append(move)
        return tuple(reversed(stack[:-1]))


def read_aliases(root: Path) -> dict[str, Alias]:
    """Every alias of the folder of the runs, by name. Raises AliasError when the file is damaged."""
    path = root / ALIASES_FILE
    try:
        logs = json.loads(path.read_text(encoding="utf-8"))
        return {name: Alias(name, tuple(Move(**move) for move in log)) for name, log in logs.items() if log}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AliasError(f"{path} cannot be read ({error}); restore it, or remove it and promote again.") from error


def check_alias_name(name: str, taken: Collection[str] = ()) -> None:
    """Raise AliasError for a name that an alias cannot have, or that something else has (`taken`)."""
    if not _NAME.fullmatch(name):
        raise AliasError(
            f"An alias's name has lower-case letters, digits, - and _, and begins with a letter, not {name!r}."
        )
    if name in taken:
        raise AliasError(f"alias={name} cannot be: a checkpoint is called so already; choose another name.")


def promote(root: Path, name: str, run: str, crc32: str, evidence: Mapping[str, Any], *, before: str | None) -> Move:
    """Move an alias to a run, and log it. Returns the log's new entry.

    `before` is the run that it is believed to name, None for none. Raises AliasError when it names another one:
    somebody else has moved it meanwhile.
    """

    def moved(alias: Alias | None) -> Move:
        present = None if alias is None else alias.current.run
        if present != before:
            raise AliasError(f"{name} is {present or 'no run'} by now, not {before or 'none'}; nothing was moved.")
        return Move(run, crc32, now(), _user(), before, evidence=evidence)

    return _append(root, name, moved)


def go_back(root: Path, name: str, present: Mapping[str, str | None]) -> Move:
    """Move an alias to the newest earlier run that still has the weights that were promoted, and log it.

    `present` has the checksums of the runs' weights as they are now. Returns the log's new entry. Raises AliasError
    when there is no such run.
    """

    def moved(alias: Alias | None) -> Move:
        if alias is None:
            raise AliasError(f"There is no alias {name!r}; `resonance promote RUN` makes one.")
        if not alias.earlier:
            raise AliasError(f"{name} has named no other run before {alias.current.run}; there is no way back.")
        whole = [move for move in alias.earlier if present.get(move.run) == move.crc32]
        if not whole:
            runs = ", ".join(dict.fromkeys(move.run for move in alias.earlier))
            raise AliasError(
                f"{name} cannot go back: what was promoted before is gone or has other weights now: {runs}."
            )
        return Move(whole[0].run, whole[0].crc32, now(), _user(), alias.current.run, back=True)

    return _append(root, name, moved)


def _append(root: Path, name: str, moved: Callable[[Alias | None], Move]) -> Move:
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{ALIASES_FILE}.lock"):
        aliases = read_aliases(root)
        alias = aliases.get(name)
        move = moved(alias)
        logs = {other.name: [asdict(each) for each in other.log] for other in aliases.values()}
        logs.setdefault(name, []).append(asdict(move))
        write_text_atomically(root / ALIASES_FILE, json.dumps(logs, indent=2, ensure_ascii=False) + "\n")
    return move


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
