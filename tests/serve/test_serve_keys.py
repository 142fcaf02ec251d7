"""API keys that are made, replaced, listed and revoked, and the owners they belong to; a server sees that at once."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resonance.errors import ResonanceError
from serve.api.auth import KeyRing
from serve.api.errors import ApiError
from serve.keys import main
from serve.owners import keys_file, parse_environment_keys, read_owners
from serve.settings import read_settings


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path))
    monkeypatch.delenv("RESONANCE_API_KEYS", raising=False)
    return tmp_path


def add(capsys, name: str, *more: str) -> str:
    main(["action=add", f"name={name}", *more])
    return capsys.readouterr().out.split()[-1]


def rotate(capsys, name: str, *more: str) -> str:
    main(["action=rotate", f"name={name}", *more])
    return capsys.readouterr().out.split()[-1]


def ring(given: str = "", **how) -> KeyRing:
    return KeyRing(parse_environment_keys(given), keys_file(), **{"open": False, **how})


def test_a_key_is_shown_once_and_only_its_hash_is_kept(capsys, home):
    key = add(capsys, "alice")
    assert len(key) > 30
    kept = keys_file().read_text()
    assert key not in kept
    assert json.loads(kept)["owners"][0]["name"] == "alice"
    main(["action=list"])
    listed = capsys.readouterr().out
    assert "alice" in listed
    assert key not in listed


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_file_is_its_users_alone_whatever_the_umask(capsys, home, umask):
    before = os.umask(umask)
    try:
        add(capsys, "alice")
        add(capsys, "bob")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()}
    assert modes["api-keys.json"] == 0o600
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes


def test_a_running_ring_lets_new_keys_in_and_revoked_ones_out(capsys, home):
    running = ring("from-environment")
    assert running.owner("from-environment")
    assert running.owner("nobody") is None
    alice, bob = add(capsys, "alice"), add(capsys, "bob")
    assert len({running.owner(alice), running.owner(bob), running.owner("from-environment")}) == 3
    main(["action=revoke", "name=alice"])
    assert running.owner(alice) is None
    assert running.owner(bob)
    main(["action=revoke", "name=bob"])
    assert running.owner(bob) is None
    assert not running.open


def test_an_owner_stays_the_same_through_rotated_revoked_and_further_keys(capsys, home):
    running = ring()
    first = add(capsys, "alice")
    owner = running.owner(first)
    second = rotate(capsys, "alice")
    assert (running.owner(first), running.owner(second)) == (None, owner)
    laptop = add(capsys, "alice", "another=true")
    assert {running.owner(second), running.owner(laptop)} == {owner}
    prefix = read_owners()[0].keys[0].sha256[:8]
    main(["action=revoke", "name=alice", f"key={prefix}"])
    assert (running.owner(second), running.owner(laptop)) == (None, owner)
    main(["action=revoke", "name=alice"])
    assert running.owner(laptop) is None
    assert running.owner(add(capsys, "alice")) == owner


def test_a_rotated_key_is_let_in_for_the_grace_time_and_no_longer(capsys, home):
    running = ring()
    first = add(capsys, "alice", "admin=true")
    second = rotate(capsys, "alice", "grace=1s")
    assert running.owner(first) == running.owner(second)
    assert running.is_admin(second)
    digest = running.authenticate(f"Bearer {first}", "here").key
    assert running.is_still_valid(digest)
    time.sleep(1.1)
    assert running.owner(first) is None
    assert not running.is_still_valid(digest)
    third = rotate(capsys, "alice", "grace=1h")
    rotate(capsys, "alice")
    assert running.owner(third) is None


def test_an_admin_key_is_told_apart(capsys, home):
    plain, root = add(capsys, "alice"), add(capsys, "root", "admin=true")
    running = ring("from-environment")
    assert running.is_admin(root)
    assert running.owner(root)
    assert not any(map(running.is_admin, (plain, "from-environment", "")))


def test_a_file_of_the_first_version_is_read_and_rewritten_and_its_owners_keep_their_conversations(capsys, home):
    key = "rsn-of-old"
    entry = {"name": "Alice A", "sha256": digest(key), "created_at": "2026-01-01T00:00:00Z", "admin": True}
    keys_file().write_text(json.dumps([entry, entry | {"name": "bob", "sha256": digest("bobs"), "admin": False}]))
    running = ring()
    assert running.owner(key) == digest(key)[:32]  # what its conversations stand under
    assert running.is_admin(key)
    assert not running.is_admin("bobs")
    carol = add(capsys, "carol")
    assert json.loads(keys_file().read_text())["version"] == 2
    assert (running.owner(key), running.owner("bobs")) == (digest(key)[:32], digest("bobs")[:32])
    assert running.owner(carol)
    assert running.owner(rotate(capsys, "Alice A")) == digest(key)[:32]
    assert [(owner.name, owner.keys[0].admin) for owner in read_owners()][:2] == [("Alice A", True), ("bob", False)]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_a_key_of_the_environment_has_the_owner_that_is_named_before_it(capsys, home, monkeypatch):
    bare = ring("secret").owner("secret")
    named = ring("alice:secret,bob:colon:inside")
    alice = named.owner("secret")
    assert alice != bare == digest("secret")[:32]
    assert named.owner("alice:secret") is None
    assert named.owner("colon:inside") not in (None, alice)
    assert ring("alice:another-one").owner("another-one") == alice
    assert named.renamed_owners()[bare] == alice
    assert ring("alice:secret").owner(add(capsys, "alice")) == alice
    main(["action=list"])
    assert "RESONANCE_API_KEYS" not in capsys.readouterr().out
    monkeypatch.setenv("RESONANCE_API_KEYS", "alice:secret,bare")
    main(["action=list"])
    assert capsys.readouterr().out.count("RESONANCE_API_KEYS") == 2
    main(["action=revoke", "name=alice"])
    assert "it is let in until it is taken out there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("good,no name:secret", "Key 2 of RESONANCE_API_KEYS has no owner's name"),
        ("alice:", "no key behind alice:"),
        ("alice:secret,bob:secret", "stands there twice"),
    ],
)
def test_a_key_of_the_environment_that_cannot_be_is_refused_at_the_start_without_showing_it(given, sentence):
    with pytest.raises(ResonanceError, match=sentence) as refused:
        read_settings([], {"RESONANCE_API_KEYS": given})
    assert "secret" not in str(refused.value)


def test_keys_that_appear_close_an_open_ring_for_good_and_it_says_so_once(capsys, caplog, home):
    running = ring(open=True)
    assert running.authenticate(None, "10.0.0.1").owner == ""
    key = add(capsys, "alice")
    with pytest.raises(ApiError) as refused:
        running.authenticate(None, "10.0.0.1")
    assert (refused.value.status, refused.value.code) == (401, "missing_api_key")
    assert running.authenticate(f"Bearer {key}", "10.0.0.1").owner
    assert running.is_still_valid(b"")  # what began before may end
    main(["action=revoke", "name=alice"])
    assert not running.open
    assert len([record for record in caplog.records if "keys claim NAME" in record.message]) == 1


def test_a_server_that_starts_after_the_last_key_was_revoked_is_not_open(capsys, tmp_path, runs):
    overrides = ["checkpoint=tiny", f"root={runs}"]
    assert not read_settings(overrides, {}).requires_keys
    add(capsys, "alice")
    main(["action=revoke", "name=alice"])
    assert "goes on asking" in capsys.readouterr().err
    assert read_settings(overrides, {}).requires_keys


def test_auth_none_stays_open_and_says_so_once_when_there_are_keys(capsys, caplog, home):
    running = ring(open=True, closes=False)
    add(capsys, "alice")
    add(capsys, "bob")
    assert [running.authenticate(None, "here").owner for _ in range(3)] == [""] * 3
    assert len([record for record in caplog.records if "auth=none" in record.message]) == 1


def test_changes_at_the_same_time_lose_nobody(home):
    command = [sys.executable, "-c", "import sys; from serve.keys import main; main(sys.argv[1:])"]
    running = [
        subprocess.Popen([*command, "action=add", f"name=n{i}"], stdout=subprocess.PIPE, text=True) for i in range(5)
    ]
    keys = [process.communicate(timeout=100)[0].strip() for process in running]
    assert [process.returncode for process in running] == [0] * 5
    now = ring()
    assert len({now.owner(key) for key in keys} - {None}) == 5
    assert not list(Path(home).glob("*.tmp"))


def test_a_damaged_file_lets_nobody_in(capsys, home):
    key = add(capsys, "alice")
    for damage in ("{}", '{"version": 3, "owners": []}', '[{"name": "x"}]', '{"version": 2, "owners": [1]}', "["):
        keys_file().write_text(damage)
        assert ring().owner(key) is None
        with pytest.raises(ResonanceError, match="mend or remove"):
            read_owners()
    with pytest.raises(ResonanceError, match="mend or remove"):
        main(["action=add", "name=bob"])
    assert keys_file().read_text() == "["


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["action=add"], "has a name"),
        (["action=add", "name=alice"], "already"),
        (["action=add", "name=a b"], "64 letters"),
        (["action=revoke", "name=bob"], "there are: alice"),
        (["action=rotate", "name=bob"], "there are: alice"),
        (["action=rotate", "name=alice", "grace=soon"], "30m, 1h or 7d"),
        (["action=rotate", "name=alice", "key=1e9"], "no key whose hash begins with '1e9'"),
        (["action=list", "grace=1h"], "grace means nothing to `keys list`"),
        (["action=claim", "name=bob"], "there are: alice"),
        (["action=claim", "name=alice"], "no database at"),
        (["action=look"], "add, rotate, revoke, list, claim"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(home, line, sentence):
    entry = {"name": "alice", "sha256": digest("a key"), "created_at": "2026-01-01T00:00:00Z", "admin": False}
    keys_file().write_text(json.dumps([entry]))
    with pytest.raises(ResonanceError, match=sentence):
        main(line)
    assert not (home / "conversations.sqlite").exists()
