"""Permissions of stored files: a server makes them private to its user when it starts."""

import logging
import stat
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import make_url

from resonance.paths import home
from resonance.private_files import private_folder, restrict
from serve.owners import keys_file
from serve.settings import Settings
from serve.storage.sqlite_file import SQLiteFile

log = logging.getLogger("resonance.serve")


def restrict_stored_files(settings: Settings) -> None:
    """Make RESONANCE_HOME 0700, and databases, caches and keys 0600; log which were readable by others before."""
    folder = private_folder(home())
    restricted: list[str] = []
    failed: list[str] = []
    if _is_shared(folder):
        failed.append(f"{folder}, which others use too: give RESONANCE_HOME a folder of its own")
    else:
        _restrict(folder, restricted, failed)
    for path in dict.fromkeys(_files(settings)):
        _restrict(path, restricted, failed)
    if restricted:
        log.warning("other users of this machine could open these, and cannot any more: %s", ", ".join(restricted))
    if failed:
        log.warning("other users of this machine may be able to open %s", "; ".join(failed))


def _files(settings: Settings) -> Iterator[Path]:
    keys = keys_file()
    yield from (keys, keys.with_name(f".{keys.name}.lock"))
    yield from sorted(home().glob("*.sqlite*"))
    for name in (settings.search.get("cache"), settings.search.get("index")):
        if name:
            path = Path(str(name)).expanduser()
            yield from (path, *sorted(path.parent.glob(f"{path.name}-*")))
    database = SQLiteFile.of(make_url(settings.store.url))
    if database is not None:
        yield from (database.path, *sorted(database.path.parent.glob(f"{database.path.name}-*")))


def _restrict(path: Path, restricted: list[str], failed: list[str]) -> None:
    try:
        mode = restrict(path)
    except FileNotFoundError:
        return
    except OSError as error:
        failed.append(f"{path} ({error.strerror})")
        return
    if mode is not None:
        restricted.append(f"{path} ({mode:04o})")


def _is_shared(folder: Path) -> bool:
    """Whether a folder is a system folder or the user's home, whose mode must not change."""
    folder = folder.resolve()
    sticky = folder.stat().st_mode & stat.S_ISVTX
    return bool(sticky) or folder in (Path(folder.anchor), Path.home().resolve())
