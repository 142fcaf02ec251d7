"""API keys that are made, listed and revoked; a server sees that at once."""

import json

import pytest

from resonance.errors import ResonanceError
from serve.http.auth import KeyRing
from serve.keys import keys_file, main


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path))
    return tmp_path


def add(capsys, name: str) -> str:
    main(["action=add", f"name={name}"])
    return capsys.readouterr().out.strip()


def test_a_key_is_shown_once_and_only_its_hash_is_kept(capsys, home):
    key = add(capsys, "alice")
    assert len(key) > 30
    kept = keys_file().read_text()
    assert key not in kept
    assert json.loads(kept)[0]["name"] == "alice"
    assert keys_file().stat().st_mode & 0o077 == 0
    main(["action=list"])
    listed = capsys.readouterr().out
    assert "alice" in listed
    assert key not in listed


def test_a_running_ring_lets_new_keys_in_and_revoked_ones_out(capsys, home):
    ring = KeyRing(["from-environment"], keys_file(), open=False)
    assert ring.owner("from-environment")
    assert ring.owner("nobody") is None
    alice, bob = add(capsys, "alice"), add(capsys, "bob")
    assert len({ring.owner(alice), ring.owner(bob), ring.owner("from-environment")}) == 3
    main(["action=revoke", "name=alice"])
    assert ring.owner(alice) is None
    assert ring.owner(bob)
    main(["action=revoke", "name=bob"])
    assert ring.owner(bob) is None
    assert not ring.open


def test_an_admin_key_is_told_apart(capsys, home):
    plain = add(capsys, "alice")
    main(["action=add", "name=root", "admin=true"])
    root = capsys.readouterr().out.strip()
    ring = KeyRing(["from-environment"], keys_file(), open=False)
    assert ring.is_admin(root)
    assert ring.owner(root)
    assert not any(map(ring.is_admin, (plain, "from-environment", "")))


def test_a_damaged_file_lets_nobody_in(capsys, home):
    key = add(capsys, "alice")
    keys_file().write_text("[")
    ring = KeyRing([], keys_file(), open=False)
    assert ring.owner(key) is None
    with pytest.raises(ResonanceError, match="mend or remove"):
        main(["action=list"])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["action=add"], "has a name"),
        (["action=add", "name=alice"], "already"),
        (["action=revoke", "name=bob"], "there are: alice"),
        (["action=look"], "add, list, revoke"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(capsys, home, line, sentence):
    add(capsys, "alice")
    with pytest.raises(ResonanceError, match=sentence):
        main(line)
