"""What is stored about people is its user's alone: folders 0700 and files 0600, new or old, whatever the umask."""

import asyncio
import os
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from resonance.errors import ResonanceError
from resonance.private_files import private_folder, private_sqlite
from resonance.retrieval.cache import Cache
from resonance.retrieval.index import Index
from serve.run import main
from serve.storage.store import NewMessage, Store


@pytest.fixture(params=[0o000, 0o022], ids="umask {:03o}".format)
def umask(request):
    """One that takes no rights away, and the usual one."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def store_something(path: Path) -> dict[str, int]:
    """Store a message; return the modes of the database's files while it is open."""
    store = Store(f"sqlite:///{path}")
    await store.append("", "c", [NewMessage("user", "secret", "m")], None)
    modes = {each.name: mode(each) for each in path.parent.glob(f"{path.name}*")}
    await store.close()
    return modes


@pytest.mark.usefixtures("umask")
def test_new_databases_and_caches_are_made_for_their_user_alone(tmp_path):
    home = tmp_path / "a" / "home"
    private_folder(home)
    modes = asyncio.run(store_something(home / "conversations.sqlite"))
    assert {"conversations.sqlite", "conversations.sqlite-wal", "conversations.sqlite-shm"} <= modes.keys()
    assert set(modes.values()) == {0o600}
    cache = Cache(tmp_path / "b" / "search.sqlite")
    cache.put("results", "words", [])
    assert mode(tmp_path / "b") == 0o700
    assert {mode(path) for path in (tmp_path / "b").iterdir()} == {0o600}
    cache.close()
    assert mode(home) == mode(home.parent) == 0o700


def test_what_was_open_to_others_is_closed_to_them_when_it_is_opened(tmp_path):
    asyncio.run(store_something(tmp_path / "conversations.sqlite"))
    held = sqlite3.connect(tmp_path / "conversations.sqlite")
    held.execute("SELECT count(*) FROM messages").fetchone()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("Cats sleep most of the day. " * 5)
    index = Index(tmp_path / "notes", tmp_path / "index")
    index.update()
    Cache(tmp_path / "search.sqlite").close()
    databases = [path for suffix in ("", "-wal", "-shm") for path in tmp_path.rglob(f"*.sqlite{suffix}")]
    for path in (index.folder, *databases):
        path.chmod(0o755 if path.is_dir() else 0o666)
    modes = asyncio.run(store_something_again(tmp_path / "conversations.sqlite"))
    assert len(modes) >= 3
    assert set(modes.values()) == {0o600}
    Cache(tmp_path / "search.sqlite").close()
    assert Index(tmp_path / "notes", tmp_path / "index").search("cats", 1)
    assert mode(tmp_path / "search.sqlite") == 0o600
    assert mode(index.folder) == 0o700
    assert mode(index.folder / "passages.sqlite") == 0o600
    held.close()


async def store_something_again(path: Path) -> dict[str, int]:
    store = Store(f"sqlite:///{path}")
    await store.open()
    modes = {each.name: mode(each) for each in path.parent.glob(f"{path.name}*")}
    await store.close()
    return modes


def test_a_database_that_is_open_keeps_its_locks_when_its_mode_is_looked_at(tmp_path):
    """POSIX drops a process's locks on a file when it closes any descriptor of it; another would write meanwhile."""
    path = tmp_path / "held.sqlite"
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("CREATE TABLE t (x)")
    held.execute("BEGIN EXCLUSIVE")
    path.chmod(0o644)
    private_sqlite(path)
    other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('INSERT INTO t VALUES (1)')"
    tried = subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, text=True, check=False)
    assert "database is locked" in tried.stderr
    held.close()


def start(home: Path, runs: Path, monkeypatch, *overrides: str) -> None:
    """Start a server, as far as its port, which is taken."""
    monkeypatch.setenv("RESONANCE_HOME", str(home))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResonanceError, match="cannot be used"):
            main(["checkpoint=tiny", f"root={runs}", f"port={port}", *overrides])


def test_a_starting_server_closes_what_is_open_to_others_and_says_so_once(tmp_path, runs, monkeypatch, caplog):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, home / "weights", home / "index", elsewhere):
        folder.mkdir()
        folder.chmod(0o755)
    names = ("conversations.sqlite", "conversations.sqlite-wal", "search.sqlite", "api-keys.json", "weights/model")
    for path in (*(home / name for name in names), elsewhere / "mine.sqlite", elsewhere / "mine.sqlite-wal"):
        path.write_text("[]")
        path.chmod(0o644)
    overrides = ("search=documents", f"search.path={elsewhere}", f"store.url=sqlite:///{elsewhere}/mine.sqlite")
    start(home, runs, monkeypatch, *overrides)
    assert mode(home) == mode(home / "index") == 0o700
    assert {mode(path) for path in (*home.glob("*.*"), *elsewhere.iterdir())} == {0o600}
    assert mode(elsewhere) == 0o755  # somebody else's folder
    assert mode(home / "weights" / "model") == 0o644
    (line,) = [record.getMessage() for record in caplog.records if "other users" in record.message]
    assert f"{home} (0755)" in line
    assert f"{elsewhere}/mine.sqlite-wal (0644)" in line
    start(home, runs, monkeypatch, *overrides)
    assert len([record for record in caplog.records if "other users" in record.message]) == 1


def test_a_folder_of_everybodys_is_left_as_it_is_and_that_is_said(tmp_path, runs, monkeypatch, caplog):
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    start(shared, runs, monkeypatch)
    assert mode(shared) == 0o1777
    assert "give RESONANCE_HOME a folder of its own" in caplog.text
