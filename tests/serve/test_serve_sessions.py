"""Whatever two people do with their conversations, in whatever order: each finds what they did, and nobody else."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

OWNERS = ("ada", "grace")
SESSIONS = ("one", "two")  # the same names for both: an id belongs to its owner
EVERYBODY, ANY_SESSION = st.sampled_from(OWNERS), st.sampled_from(SESSIONS)
WORDS = st.text("abcdefgh ÄößЖ漢字🙂", min_size=1, max_size=30).filter(lambda text: text.strip() == text != "")
CHAT = {"max_tokens": 3, "logit_bias": {"50256": -100}}


@dataclass
class Turn:
    """A message as it should be stored."""

    id: str
    parent_id: str | None
    role: str
    content: str
    finish_reason: str | None = None
    rating: int | None = None


@dataclass
class Talk:
    """A conversation as it should be stored."""

    title: str
    turns: list[Turn] = field(default_factory=list)


Key = tuple[str, str]


class People(RuleBasedStateMachine):
    """Two people, two conversations each, and what both should find; `server` is set by the test."""

    server: Any

    def __init__(self) -> None:
        super().__init__()
        self.talks: dict[Key, Talk] = {}
        self.running: dict[Key, ExitStack] = {}  # streams whose end nobody has read
        for owner in OWNERS:
            assert self.call("DELETE", owner, "").status_code == 200

    def call(self, method: str, owner: str, path: str, body: Any = None) -> Any:
        address = path if path.startswith("/v1") else f"/v1/conversations{path}"
        return self.server.client.request(method, address, json=body, headers={"Authorization": f"Bearer {owner}"})

    def stored(self, key: Key) -> Talk | None:
        response = self.call("GET", key[0], f"/{key[1]}")
        if response.status_code == 404:
            return None
        told = response.json()
        assert told["message_count"] == len(told["messages"])
        names = ("id", "parent_id", "role", "content", "finish_reason")
        turns = [
            Turn(*(message[name] for name in names), (message["feedback"] or {}).get("rating"))
            for message in told["messages"]
        ]
        return Talk(told["title"], turns)

    def request(self, key: Key, text: str, parent: dict[str, Any]) -> dict[str, Any]:
        return CHAT | {"messages": [{"role": "user", "content": text}], "session_id": key[1]} | parent

    def heard(self, key: Key, text: str, parent: dict[str, Any], *, answered: bool) -> Talk:
        """Note that a text was taken, and perhaps answered: new turns stand at the end, where they should."""
        if key not in self.talks:  # two conversations of an owner are told apart
            words = " ".join(text.split())
            taken = {talk.title for (owner, _), talk in self.talks.items() if owner == key[0]}
            self.talks[key] = Talk(f"{words} (2)" if words in taken else words)
        talk = self.talks[key]
        before = list(talk.turns)
        follows = parent["parent_id"] if parent else (before[-1].id if before else None)
        now = self.stored(key)
        assert now is not None
        new = now.turns[len(before) :]
        assert [turn.role for turn in new] == ["user", "assistant"][: 1 + answered]
        assert (new[0].content, new[0].parent_id) == (text, follows)
        if answered:
            assert (new[1].parent_id, new[1].finish_reason) == (new[0].id, "length")
        talk.turns = before + new
        return talk

    def parent(self, key: Key, data: st.DataObject) -> dict[str, Any]:
        """Where the next text goes: behind the newest turn, any other, or none."""
        turns = self.talks[key].turns if key in self.talks else []
        return data.draw(st.sampled_from([{}, {"parent_id": None}, *({"parent_id": turn.id} for turn in turns)]))

    @rule(owner=EVERYBODY, session=ANY_SESSION, text=WORDS, data=st.data())
    def send(self, owner, session, text, data):
        key = (owner, session)
        parent = self.parent(key, data)
        response = self.call("POST", owner, "/v1/chat/completions", self.request(key, text, parent))
        if key in self.running:
            assert (response.status_code, response.json()["error"]["code"]) == (409, "session_busy")
            return
        assert response.status_code == 200, response.text
        answer = self.heard(key, text, parent, answered=True).turns[-1]
        assert (answer.id, answer.content) == (
            response.json()["id"],
            response.json()["choices"][0]["message"]["content"],
        )

    @precondition(lambda self: len(self.running) < 2)
    @rule(owner=EVERYBODY, session=ANY_SESSION, text=WORDS, data=st.data())
    def begin(self, owner, session, text, data):
        key = (owner, session)
        if key in self.running:
            return
        parent = self.parent(key, data)
        stack = ExitStack()
        body = self.request(key, text, parent) | {"max_tokens": 8000}
        headers = {"Authorization": f"Bearer {owner}"}
        response = stack.enter_context(self.server.client.stream("POST", "/v1/chat/stream", json=body, headers=headers))
        assert response.status_code == 200
        lines = response.iter_lines()
        assert next(lines).startswith("id: ")
        stack.callback(lines.close)
        self.running[key] = stack
        self.heard(key, text, parent, answered=False)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def stop(self, data):
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.pop(key).close()
        count = len(self.talks[key].turns) + 1
        assert self.server.until(lambda: len(self.stored(key).turns) == count)
        answer = self.stored(key).turns[-1]
        assert (answer.finish_reason, answer.parent_id) == ("cancelled", self.talks[key].turns[-1].id)
        self.talks[key].turns.append(answer)
        # What is stored may be seen a moment before the conversation is free again.
        assert self.server.until(lambda: self.call("DELETE", key[0], f"/{key[1]}/messages/x").status_code == 404)

    @rule(owner=EVERYBODY, session=ANY_SESSION, title=WORDS)
    def rename(self, owner, session, title):
        response = self.call("PATCH", owner, f"/{session}", {"title": title})
        talk = self.talks.get((owner, session))
        assert response.status_code == (404 if talk is None else 200)
        if talk is not None:
            talk.title = title

    @rule(owner=EVERYBODY, session=ANY_SESSION)
    def delete(self, owner, session):
        key = (owner, session)
        response = self.call("DELETE", owner, f"/{session}")
        assert response.status_code == (409 if key in self.running else 200 if key in self.talks else 404)
        if response.status_code == 200:
            del self.talks[key]

    @rule(owner=EVERYBODY)
    def clear(self, owner):
        response = self.call("DELETE", owner, "")
        if any(busy == owner for busy, _ in self.running):
            assert response.status_code == 409
            return
        mine = [key for key in self.talks if key[0] == owner]
        assert response.json()["deleted"] == len(mine)
        for key in mine:
            del self.talks[key]

    @precondition(lambda self: any(talk.turns for talk in self.talks.values()))
    @rule(rating=st.sampled_from((1, -1)), stranger=st.booleans(), data=st.data())
    def rate(self, rating, stranger, data):
        key, turn = self.some_turn(data)
        owner = self.other(key[0]) if stranger else key[0]
        path = f"/{key[1]}/messages/{turn.id}/feedback"
        response = self.call("PUT", owner, path, {"rating": rating})
        if stranger or turn.role != "assistant":
            assert response.status_code == 404
        else:
            assert response.status_code == 200
            turn.rating = rating

    @precondition(lambda self: any(talk.turns for talk in self.talks.values()))
    @rule(stranger=st.booleans(), data=st.data())
    def delete_turn(self, stranger, data):
        key, turn = self.some_turn(data)
        owner = self.other(key[0]) if stranger else key[0]
        response = self.call("DELETE", owner, f"/{key[1]}/messages/{turn.id}")
        busy = (owner, key[1]) in self.running
        assert response.status_code == (409 if busy else 404 if stranger else 200)
        if response.status_code == 200:
            talk = self.talks[key]
            talk.turns.remove(turn)
            for each in talk.turns:
                each.parent_id = turn.parent_id if each.parent_id == turn.id else each.parent_id

    def some_turn(self, data: st.DataObject) -> tuple[Key, Turn]:
        turns = [(key, turn) for key, talk in sorted(self.talks.items()) for turn in talk.turns]
        key, turn = data.draw(st.sampled_from(turns))
        return key, turn

    def other(self, owner: str) -> str:
        return next(each for each in OWNERS if each != owner)

    @invariant()
    def everybody_finds_what_they_did(self):
        for owner in OWNERS:
            listed = {each["id"]: each["title"] for each in self.call("GET", owner, "").json()["data"]}
            assert listed == {key[1]: talk.title for key, talk in self.talks.items() if key[0] == owner}
            for session in SESSIONS:
                assert self.stored((owner, session)) == self.talks.get((owner, session))

    def teardown(self) -> None:
        for key in list(self.running):
            self.running.pop(key).close()
            assert self.server.until(lambda key=key: self.call("DELETE", key[0], f"/{key[1]}").status_code == 200)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_people_find_what_they_did_whatever_they_do(launch):
    server = launch(
        "checkpoint=tiny", "max_batch_size=4", "max_queue=4", "resume_s=0", RESONANCE_API_KEYS=",".join(OWNERS)
    )
    machine = type("Machine", (People,), {"server": server})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
