"""Training uses nothing of an owner who has not said yes, and a judgement can be withdrawn."""

import asyncio
import uuid

from serve.storage.consent import read_consent, read_consents, set_consent
from serve.storage.store import Store

from .conftest import Running


def test_consent_is_off_until_it_is_given_and_can_be_withdrawn(server: Running) -> None:
    address = "/v1/training-consent"
    first = server.client.get(address).json()
    assert (first["policy"], first["given"], first["changed_at"]) == ("ask", False, None)
    for given in (True, False):
        assert server.client.put(address, json={"given": given}).json()["given"] is given
        read = server.client.get(address).json()
        assert read["given"] is given
        assert read["changed_at"].endswith("Z")
    refused = server.client.put(address, json={"given": "yes"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "given")


def test_each_owner_decides_alone(url: str, owner: str) -> None:
    async def use() -> None:
        store = Store(url)
        await store.open()
        try:
            await set_consent(store, owner, given=True)
            assert await read_consent(store, owner + "2") is None
            await set_consent(store, owner, given=False)
            consents = await read_consents(store)
            assert consents[owner].given is False
            assert owner + "2" not in consents
        finally:
            await store.close()

    asyncio.run(use())


def test_withdrawn_feedback_is_in_no_training_data(server: Running) -> None:
    session = f"s-{uuid.uuid4().hex[:12]}"
    body = {"messages": [{"role": "user", "content": "Hello"}], "session_id": session, "max_tokens": 4}
    answer = server.client.post("/v1/chat/completions", json=body).json()["id"]
    path = f"/v1/conversations/{session}/messages/{answer}/feedback"
    assert server.client.put(path, json={"rating": -1, "correction": "Good day."}).status_code == 200
    assert session in server.client.get("/v1/training.jsonl").text
    assert server.client.delete(path).json() == {"id": answer, "object": "feedback.deleted", "deleted": True}
    assert session not in server.client.get("/v1/training.jsonl").text
    assert server.client.get(f"/v1/conversations/{session}").json()["messages"][-1]["feedback"] is None
    assert server.client.delete(path.replace(answer, "msg-none")).status_code == 404
    server.client.delete(f"/v1/conversations/{session}")
