"""Owners of a running server: keys that appear and go, what was written without keys, and nobody sees another's."""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from resonance.cli.main import run
from serve.storage.shadow_pairs import add_pair
from serve.storage.store import Store
from serve.storage.tables import ConversationRow, ShadowPairRow

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "logit_bias": {"50256": -100}}
LONG = CHAT | {"max_tokens": 8000}
Headers = dict[str, str]
UNSCOPED = {
    "GET /health", "GET /metrics", "GET /v1/models", "GET /v1/models/{model_id}", "POST /v1/models",
    "POST /v1/models/{model_id}/reload", "DELETE /v1/models/{model_id}", "POST /v1/completions",
    "POST /v1/embeddings", "POST /v1/chat/tokens", "GET /v1/shared/{share_id}",
}  # fmt: skip
"""Operations on what belongs to everybody, a share to whoever has its link; a raw completion stores nothing."""


@pytest.fixture(scope="module")
def server(launch):
    """A server that runs without keys at first."""
    return launch(
        "checkpoint=tiny", "max_batch_size=4", "max_queue=8", "resume_s=60", "limits.streams=2", "explain=always"
    )


def command(server, *words: str) -> subprocess.CompletedProcess[str]:
    """`resonance keys ...` in a process of its own, with the server's home."""
    env = os.environ | {"RESONANCE_HOME": str(server.log.parent), "RESONANCE_API_KEYS": ""}
    line = [sys.executable, "-m", "resonance.cli", "keys", *words]
    return subprocess.run(line, env=env, cwd=server.log.parent, capture_output=True, text=True, check=False)


def keys(server, *words: str) -> str:
    """The same in this process, which is faster."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("RESONANCE_HOME", str(server.log.parent))
        patch.setenv("RESONANCE_API_KEYS", "")
        assert run(["keys", *words]) == 0
    return printed.getvalue()


@pytest.fixture(scope="module")
def alice(server) -> Headers:
    """Alice's key, made while the server runs open and a conversation is stored."""
    kept = server.client.post("/v1/chat/completions", json=CHAT | {"session_id": "before"})
    assert kept.status_code == 200
    admin_before = server.client.get("/openapi.json").json()["paths"]["/v1/models"]
    assert "security" in admin_before["post"]
    assert "security" not in admin_before["get"]
    return bearer(keys(server, "add", "alice"))


@pytest.fixture(scope="module")
def bob(server, alice) -> Headers:
    return bearer(keys(server, "add", "bob"))


def bearer(key: str) -> Headers:
    return {"Authorization": f"Bearer {key.strip()}"}


def error_of(text: str) -> dict[str, Any]:
    """The error event of a stream that ended with one."""
    events = [part for part in text.split("\n\n") if "event: error" in part]
    assert len(events) == 1, text[-500:]
    assert text.rstrip().endswith("data: [DONE]")
    return json.loads(events[0].partition("data: ")[2])["error"]


def test_keys_that_appear_close_an_open_server_which_says_so_once(server, alice):
    assert server.until(lambda: "there are API keys now" in server.log.read_text(), 5)
    refused = server.client.get("/v1/conversations")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")
    assert server.client.get("/v1/conversations", headers=alice).json()["data"] == []
    assert server.log.read_text().count("there are API keys now") == 1
    assert "security" in server.client.get("/openapi.json").json()["paths"]["/v1/models"]["get"]


def test_what_was_written_without_keys_is_claimed_under_a_running_server(server, alice):
    assert "alice has 1 conversation with 2 messages and 0 votes now" in command(server, "claim", "alice").stdout
    found = server.client.get("/v1/conversations/before", headers=alice).json()
    assert [message["role"] for message in found["messages"]] == ["user", "assistant"]
    again = server.client.post("/v1/chat/completions", json=CHAT | {"session_id": "before"}, headers=alice)
    assert again.status_code == 200
    assert len(server.client.get("/v1/conversations/before", headers=alice).json()["messages"]) == 4


def test_a_rotated_key_opens_the_same_conversations_and_counts_for_the_same_limits(server):
    first = bearer(keys(server, "add", "carol"))
    body = CHAT | {"session_id": "carols"}
    assert server.client.post("/v1/chat/completions", json=body, headers=first).status_code == 200
    second = bearer(keys(server, "rotate", "carol", "grace=1h"))
    for headers in (first, second):
        assert [row["id"] for row in server.client.get("/v1/conversations", headers=headers).json()["data"]] == [
            "carols"
        ]
    with contextlib.ExitStack() as streams:
        for headers in (first, second):
            streams.enter_context(server.client.stream("POST", "/v1/chat/stream", json=LONG, headers=headers))
        refused = server.client.post("/v1/chat/completions", json=CHAT, headers=second)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
    keys(server, "revoke", "carol")


def test_a_revoked_keys_answers_end_at_once_and_its_requests_are_refused(server):
    headers = bearer(keys(server, "add", "dave"))
    body = LONG | {"session_id": "daves"}
    with server.client.stream("POST", "/v1/chat/stream", json=body, headers=headers) as stream:
        lines = stream.iter_raw()
        text = b"".join(next(lines) for _ in range(3)).decode()
        revoked = keys(server, "revoke", "dave")
        began = time.monotonic()
        text += b"".join(lines).decode()
    assert "revoked" in revoked
    assert time.monotonic() - began < 2
    error = error_of(text)
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    event_id = text.split("id: ")[1].split("\n")[0]
    for response in (
        server.client.post("/v1/chat/completions", json=CHAT, headers=headers),
        server.client.post("/v1/chat/stream", json=CHAT, headers=headers | {"Last-Event-ID": event_id}),
        server.client.get("/v1/conversations", headers=headers),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert server.until(
        lambda: server.metric("resonance_active_requests", bearer(keys(server, "add", "dave"))) == 0, 10
    )


def test_a_whole_answer_of_a_revoked_key_is_refused_too(server):
    headers = bearer(keys(server, "add", "erin"))
    answers: list[Any] = []
    asking = threading.Thread(
        target=lambda: answers.append(server.client.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 8000,
                                      "logit_bias": {"50256": -100}}, headers=headers))
    )  # fmt: skip
    asking.start()
    time.sleep(0.5)
    keys(server, "revoke", "erin")
    asking.join(timeout=10)
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [(401, "invalid_api_key")]


def test_no_endpoint_shows_or_changes_another_owners_data(server, alice, bob):
    """Each operation that knows owners is tried by bob on what is alice's; a new endpoint has to be put into a list."""
    call = Caller(server)
    answer = call(alice, "POST", "/v1/chat/completions", CHAT | {"session_id": "secret"})
    call(alice, "PUT", f"/v1/conversations/secret/messages/{answer['id']}/feedback",
         {"rating": -1, "correction": "Alice's correction"})  # fmt: skip
    side = {"model": "tiny", "content": "Alice's vote"}
    vote = {"prompt": CHAT["messages"], "a": side, "b": side, "choice": "a"}
    voted = call(alice, "POST", "/v1/votes", vote)
    pair_id = asyncio.run(add_pair_of(server, "secret"))
    with server.client.stream("POST", "/v1/chat/stream", json=CHAT, headers=alice) as stream:
        event_id = stream.read().decode().split("id: ")[1].split("\n")[0]
    with server.client.stream(
        "POST", "/v1/completions", json={"prompt": "Hi", "stream": True, "max_tokens": 2}, headers=alice
    ) as stream:
        raw_id = stream.read().decode().split("id: ")[1].split("\n")[0]
    document = ("note.md", b"# Alice's document\n\nA secret.\n")
    file_id = server.client.post("/v1/files", files={"file": document}, headers=alice).json()["id"]
    share_id = call(alice, "POST", "/v1/conversations/secret/shares", {})["id"]
    call(alice, "PATCH", "/v1/conversations/secret", {"folder": "Alice's folder"})
    before = everything(call, alice)
    assert file_id in before
    assert share_id in before
    assert "Alice's correction" in before
    assert "Alice's vote" in before
    assert pair_id in before

    message = f"/messages/{answer['id']}"
    following = CHAT | {"session_id": "secret", "parent_id": answer["id"]}
    export = server.client.get("/v1/conversations.jsonl", headers=alice).text
    tried: dict[str, Callable[[], Any]] = {
        "GET /v1/conversations": lambda: call(bob, "GET", "/v1/conversations?q=Hello")["data"] == [],
        "GET /v1/conversations/{conversation_id}": lambda: call.fails(404, bob, "GET", "/v1/conversations/secret"),
        "PATCH /v1/conversations/{conversation_id}": lambda: call.fails(
            404, bob, "PATCH", "/v1/conversations/secret", {"title": "bob's"}
        ),
        "DELETE /v1/conversations/{conversation_id}": lambda: call.fails(
            404, bob, "DELETE", "/v1/conversations/secret"
        ),
        "DELETE /v1/conversations/{conversation_id}/messages/{message_id}": lambda: call.fails(
            404, bob, "DELETE", f"/v1/conversations/secret{message}"
        ),
        "PUT /v1/conversations/{conversation_id}/messages/{message_id}/feedback": lambda: call.fails(
            404, bob, "PUT", f"/v1/conversations/secret{message}/feedback", {"rating": 1}
        ),
        "DELETE /v1/conversations/{conversation_id}/messages/{message_id}/feedback": lambda: call.fails(
            404, bob, "DELETE", f"/v1/conversations/secret{message}/feedback"
        ),
        "PUT /v1/training-consent": lambda: call(bob, "PUT", "/v1/training-consent", {"given": True})["given"]
        and not call(alice, "GET", "/v1/training-consent")["given"],
        "GET /v1/training-consent": lambda: call(alice, "GET", "/v1/training-consent")["changed_at"] is None,
        "GET /v1/learned": lambda: call(bob, "GET", "/v1/learned")["data"] == [],
        "GET /v1/conversations.jsonl": lambda: call.text(bob, "/v1/conversations.jsonl") == "",
        "GET /v1/training.jsonl": lambda: call.text(bob, "/v1/training.jsonl?which=all") == "",
        "GET /v1/preferences.jsonl": lambda: call.text(bob, "/v1/preferences.jsonl") == "",
        "GET /v1/votes": lambda: call(bob, "GET", "/v1/votes")["data"] == [],
        "DELETE /v1/votes/{vote_id}": lambda: call.fails(404, bob, "DELETE", f"/v1/votes/{voted['id']}"),
        "GET /v1/shadow-pairs": lambda: call(bob, "GET", "/v1/shadow-pairs")["data"] == [],
        "POST /v1/shadow-pairs/{pair_id}/vote": lambda: call.fails(
            404, bob, "POST", f"/v1/shadow-pairs/{pair_id}/vote", {"choice": "a"}
        ),
        "DELETE /v1/shadow-pairs/{pair_id}": lambda: call.fails(404, bob, "DELETE", f"/v1/shadow-pairs/{pair_id}"),
        "DELETE /v1/conversations": lambda: call(bob, "DELETE", "/v1/conversations")["deleted"] == 0,
        "POST /v1/chat/completions": lambda: call.fails(404, bob, "POST", "/v1/chat/completions", following),
        "POST /v1/responses": lambda: call.fails(
            400, bob, "POST", "/v1/responses", {"input": "Hi", "previous_response_id": answer["id"]}
        ),
        "GET /v1/responses/{response_id}": lambda: call.fails(404, bob, "GET", f"/v1/responses/{answer['id']}"),
        "DELETE /v1/responses/{response_id}": lambda: call.fails(404, bob, "DELETE", f"/v1/responses/{answer['id']}"),
        "POST /v1/chat/prompt": lambda: call.fails(404, bob, "POST", "/v1/chat/prompt", following),
        "POST /v1/chat/stream": lambda: all(
            call.fails(404, bob | {"Last-Event-ID": f"{id.rpartition(':')[0]}:0"}, "POST", path, body)
            for id, path, body in (
                (event_id, "/v1/chat/stream", CHAT),
                (event_id, "/v1/chat/completions", CHAT | {"stream": True}),
                (raw_id, "/v1/completions", {"prompt": "Hi", "stream": True}),
            )
        ),
        "GET /v1/chat/stream/{answer_id}": lambda: call.fails(404, bob, "GET", f"/v1/chat/stream/{answer_id}"),
        "DELETE /v1/chat/stream/{answer_id}": lambda: call.fails(404, bob, "DELETE", f"/v1/chat/stream/{answer_id}"),
        "POST /v1/votes": lambda: call(bob, "POST", "/v1/votes", vote)["id"] != voted["id"],
        "GET /v1/files": lambda: call(bob, "GET", "/v1/files")["data"] == [],
        "GET /v1/files/{file_id}": lambda: call.fails(404, bob, "GET", f"/v1/files/{file_id}"),
        "GET /v1/files/{file_id}/content": lambda: call.fails(404, bob, "GET", f"/v1/files/{file_id}/content"),
        "GET /v1/files/{file_id}/text": lambda: call.fails(404, bob, "GET", f"/v1/files/{file_id}/text"),
        "DELETE /v1/files/{file_id}": lambda: call.fails(404, bob, "DELETE", f"/v1/files/{file_id}"),
        "POST /v1/files": lambda: server.client.post("/v1/files", files={"file": document}, headers=bob).json()["id"]
        != file_id,
        "POST /v1/conversations/{conversation_id}/shares": lambda: call.fails(
            404, bob, "POST", "/v1/conversations/secret/shares", {}
        ),
        # Of her own conversation alice would hear that its checkpoint has no index.
        "POST /v1/explain": lambda: "no such conversation"
        in server.client.post("/v1/explain", json={"conversation": "secret"}, headers=bob).json()["error"]["message"],
        "GET /v1/folders": lambda: "Alice's folder" not in call.text(bob, "/v1/folders"),
        "GET /v1/shares": lambda: call(bob, "GET", "/v1/shares")["data"] == [],
        "DELETE /v1/shares/{share_id}": lambda: call.fails(404, bob, "DELETE", f"/v1/shares/{share_id}"),
        # The same ids come in as bob's own; alice's keep what they say.
        "POST /v1/conversations.jsonl": lambda: server.client.post(
            "/v1/conversations.jsonl",
            content=export.replace("Alice's correction", "Bob's"),
            headers=bob | {"Content-Type": "application/x-ndjson"},
        ).json()["imported"] == export.count("\n"),
    }  # fmt: skip
    paths = server.client.get("/openapi.json").json()["paths"]
    answer_id = event_id.rpartition(":")[0]
    operations = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert operations - UNSCOPED == set(tried)
    for operation, attempt in tried.items():
        assert attempt(), operation
        assert everything(call, alice) == before, operation
    # The same name is bob's own conversation, without alice's words in its prompt.
    call(bob, "DELETE", "/v1/conversations")
    call(bob, "POST", "/v1/chat/completions", CHAT | {"session_id": "secret"})
    prompt = call(bob, "POST", "/v1/chat/prompt", CHAT | {"session_id": "secret"})
    assert prompt["messages_kept"] == 3
    call(bob, "DELETE", "/v1/conversations")
    assert everything(call, alice) == before


async def add_pair_of(server, conversation: str) -> str:
    """Add a pair to a conversation, as a shadow does; return its id."""
    store = Store(f"sqlite:///{server.log.parent / 'conversations.sqlite'}")
    try:
        async with store.reading() as session:
            owned = select(ConversationRow.owner).where(ConversationRow.id == conversation)
            owner = (await session.scalars(owned)).one()
        sides = [{"content": "Alice's pair"}, {"content": "another"}]
        pair = ShadowPairRow(
            owner=owner, id="pair-1", conversation_id=conversation, created_at=datetime.now(UTC), a=sides[0],
            prompt=CHAT["messages"], b=sides[1],
        )  # fmt: skip
        assert await add_pair(store, pair, asks=False)
        return pair.id
    finally:
        await store.close()


class Caller:
    """Sends requests for an owner."""

    def __init__(self, server) -> None:
        self.client = server.client

    def __call__(self, who: Headers, method: str, path: str, body: Any = None) -> Any:
        response = self.client.request(method, path, json=body, headers=who)
        assert response.status_code == 200, response.text
        return response.json()

    def fails(self, status: int, who: Headers, method: str, path: str, body: Any = None) -> bool:
        return self.client.request(method, path, json=body, headers=who).status_code == status

    def text(self, who: Headers, path: str) -> str:
        return self.client.get(path, headers=who).text


def everything(call: Caller, who: Headers) -> str:
    """All that an owner can export or list."""
    exports = ("/v1/conversations.jsonl", "/v1/training.jsonl?which=all", "/v1/preferences.jsonl")
    lists = ("/v1/conversations?q=Hello", "/v1/votes", "/v1/shadow-pairs", "/v1/files", "/v1/shares")
    return "\n".join([call.text(who, path) for path in (*exports, *lists)])
