"""Conversations that are shared by a link, and how the others are arranged: pinned, archived, in folders."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from serve.storage import quota, shares
from serve.storage.shares import TooManyShares
from serve.storage.store import NewMessage, Store, new_message_id
from serve.storage.tables import ShareRow


def talk(server, session: str, text: str, **fields) -> str:
    body = {"messages": [{"role": "user", "content": text}], "session_id": session, "max_tokens": 3, "search": False}
    answer = server.client.post("/v1/chat/completions", json=body | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


@pytest.fixture
def session() -> str:
    return f"s-{uuid.uuid4().hex[:12]}"


def test_a_share_shows_one_branch_as_it_was_and_nothing_of_its_owner(server, session):
    client = server.client
    system = {"role": "system", "content": "A secret order."}
    first = talk(server, session, "One?", messages=[system, {"role": "user", "content": "One?"}])
    talk(server, session, "Two?")
    talk(server, session, "Instead?", parent_id=first)
    client.put(f"/v1/conversations/{session}/messages/{first}/feedback", json={"rating": 1, "comment": "a thought"})
    path = f"/v1/conversations/{session}/shares"
    share = client.post(path, json={"message_id": first, "expires_in_days": 2}).json()
    assert len(share["id"]) >= 32
    assert share["path"] == f"/s/{share['id']}"
    talk(server, session, "Later?", parent_id=first)
    shown = client.get(f"/v1/shared/{share['id']}")
    assert shown.headers["cache-control"] == "no-store"
    assert shown.headers["x-robots-tag"] == "noindex"
    assert [message["role"] for message in shown.json()["messages"]] == ["user", "assistant"]
    for private in ("secret", "a thought", session, "owner"):
        assert private not in shown.text
    whole = client.post(path, json={}).json()
    asked = [m["content"] for m in client.get(f"/v1/shared/{whole['id']}").json()["messages"] if m["role"] == "user"]
    assert asked == ["One?", "Later?"]
    listed = client.get("/v1/shares").json()["data"]
    assert {share["id"], whole["id"]} <= {one["id"] for one in listed}
    assert client.delete(f"/v1/shares/{share['id']}").json()["deleted"] is True
    assert client.get(f"/v1/shared/{share['id']}").status_code == 404
    assert client.delete(f"/v1/shares/{share['id']}").status_code == 404
    client.delete(f"/v1/conversations/{session}")
    assert client.get(f"/v1/shared/{whole['id']}").status_code == 404


def test_what_cannot_be_shared_is_refused_by_name(server, session):
    path = f"/v1/conversations/{session}/shares"
    assert server.client.post(path, json={}).status_code == 404
    talk(server, session, "One?")
    assert server.client.post(path, json={"message_id": "nobody"}).status_code == 404
    assert server.client.post(path, json={"expires_in_days": 366}).json()["error"]["param"] == "expires_in_days"
    assert server.client.get("/v1/shared/guessed").json()["error"]["code"] == "not_found"


def test_conversations_are_pinned_archived_and_put_into_folders(server, session):
    client = server.client
    talk(server, session, "One?")
    other = f"{session}-other"
    talk(server, other, "Two?")

    def listed(**query) -> list[str]:
        found = client.get("/v1/conversations", params={"limit": 100} | query).json()["data"]
        return [one["id"] for one in found if one["id"] in (session, other)]

    path, folder = f"/v1/conversations/{session}", f"Work {session}"
    changed = client.patch(path, json={"pinned": True, "folder": f"  Work   {session} "}).json()
    assert (changed["pinned"], changed["archived"], changed["folder"]) == (True, False, folder)
    assert listed(pinned=True) == [session]
    assert listed(folder=folder) == [session]
    assert {"name": folder, "conversation_count": 1} in client.get("/v1/folders").json()["data"]
    client.patch(path, json={"archived": True})
    assert listed(archived=False) == [other]
    assert listed(archived=True) == [session]
    assert listed() == [other, session]
    line = next(one for one in client.get("/v1/conversations.jsonl").text.splitlines() if f'"id":"{session}"' in one)
    client.delete(path)
    client.post("/v1/conversations.jsonl", content=line, headers={"Content-Type": "application/x-ndjson"})
    again = client.get(path).json()
    assert (again["pinned"], again["archived"], again["folder"]) == (True, True, folder)
    assert client.patch(path, json={"folder": None}).json()["folder"] is None
    assert client.patch(path, json={}).status_code == 400
    assert client.patch(path, json={"title": ""}).status_code == 400


def test_shares_expire_are_bounded_and_count_against_the_quota(url, owner):
    def share(id: str, days: float) -> ShareRow:
        now = datetime.now(UTC)
        values = {"title": "T", "messages": [], "created_at": now, "expires_at": now + timedelta(days=days)}
        return ShareRow(id=f"{owner}-{id}", owner=owner, conversation_id="c", **values)

    async def use() -> None:
        store = Store(url)
        await store.open()
        try:
            await store.append(owner, "c", [NewMessage("user", "Hi", new_message_id())], None)
            async with store.reading() as session:
                before = await quota.stored_bytes(session, owner)
            await shares.add_share(store, share("a", 1), max_count=2)
            await shares.add_share(store, share("b", -1), max_count=2)
            assert [one.id for one in await shares.shares(store, owner)] == [f"{owner}-a"]
            assert await shares.shared(store, f"{owner}-b") is None
            await shares.add_share(store, share("c", 1), max_count=2)  # the expired one has made room
            with pytest.raises(TooManyShares):
                await shares.add_share(store, share("d", 1), max_count=2)
            assert await shares.delete_share(store, owner, f"{owner}-a")
            assert not await shares.delete_share(store, "somebody", f"{owner}-c")
            await store.delete(owner, "c")
            async with store.reading() as session:
                assert await quota.stored_bytes(session, owner) == 0 < before
        finally:
            await store.close()

    asyncio.run(use())
