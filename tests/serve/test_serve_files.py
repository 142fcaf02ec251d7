"""Owners' documents: kept within bounds, seen by their owner alone, and drawn on by answers."""

import asyncio
import io
import uuid
from datetime import UTC, datetime

import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from resonance.retrieval.documents.extract import extract_passages
from resonance.retrieval.documents.passages import Unreadable
from serve.storage import documents, quota
from serve.storage.documents import TooManyDocuments
from serve.storage.ownership import holdings, move
from serve.storage.store import NewMessage, Store, new_message_id
from serve.storage.tables import DocumentRow
from tests.serve.stores import on_store

TOWER = b"# The tower of Ulm\n\nThe tower of Ulm was finished in 1890 and is 161 metres high.\n"


@pytest.fixture(scope="module")
def guarded(launch):
    """A server with keys of two owners, and with small limits."""
    limits = ("files.max_bytes=4096", "files.max_count=4", "files.max_total_bytes=12000")
    return launch("checkpoint=tiny", "max_batch_size=2", *limits, RESONANCE_API_KEYS="ann:a-key,ben:b-key")


ANN, BEN = {"Authorization": "Bearer a-key"}, {"Authorization": "Bearer b-key"}


def add(server, content: bytes = TOWER, name: str = "tower.md", who=ANN, **fields):
    return server.client.post("/v1/files", files={"file": (name, content)}, data=fields, headers=who)


@pytest.fixture
def empty(guarded):
    for who in (ANN, BEN):
        for file in guarded.client.get("/v1/files", headers=who).json()["data"]:
            guarded.client.delete(f"/v1/files/{file['id']}", headers=who)
    return guarded


def pdf_of(text: str) -> bytes:
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(300, 300)
    font = {"/Type": NameObject("/Font"), "/Subtype": NameObject("/Type1"), "/BaseFont": NameObject("/Helvetica")}
    fonts = DictionaryObject({NameObject("/F1"): DictionaryObject({NameObject(k): v for k, v in font.items()})})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def test_a_document_is_listed_read_and_deleted_by_its_owner_alone(empty):
    client = empty.client
    file = add(empty, purpose="assistants").json()
    assert (file["object"], file["filename"], file["bytes"], file["status"]) == (
        "file",
        "tower.md",
        len(TOWER),
        "processed",
    )
    assert abs(file["created_at"] - datetime.now(UTC).timestamp()) < 120
    path = f"/v1/files/{file['id']}"
    assert client.get(path, headers=ANN).json() == file
    text = client.get(f"{path}/text", headers=ANN).json()
    assert "161 metres" in text["passages"][0]["text"]
    content = client.get(f"{path}/content", headers=ANN)
    assert content.content == TOWER
    assert content.headers["content-type"] == "application/octet-stream"
    assert content.headers["content-disposition"].startswith("attachment")
    for there in ("", "/text", "/content"):
        assert client.get(path + there, headers=BEN).status_code == 404
    assert client.delete(path, headers=BEN).status_code == 404
    assert client.get("/v1/files", headers=BEN).json()["data"] == []
    assert client.get("/v1/files").status_code == 401
    assert client.delete(path, headers=ANN).json() == {"id": file["id"], "object": "file", "deleted": True}
    assert client.get(path, headers=ANN).status_code == 404


def test_limits_and_unreadable_files_are_refused_by_name(empty):
    def code(response, status):
        assert response.status_code == status, response.text
        return response.json()["error"]["code"]

    assert code(add(empty, b"x" * 5000), 413) == "file_too_large"
    assert code(add(empty, b"x" * 3_000_000), 413) == "payload_too_large"
    assert code(add(empty, name="a.exe"), 400) == "unsupported_file"
    assert code(add(empty, b"%PDF-1.7 no", "a.pdf"), 400) == "unreadable_file"
    assert code(add(empty, conversation_id="no spaces"), 400) == "invalid_value"
    assert code(empty.client.post("/v1/files", json={}, headers=ANN), 415) == "unsupported_media_type"
    for _ in range(3):
        assert add(empty, TOWER + b"a " * 1900).status_code == 200
    assert code(add(empty, TOWER + b"a " * 1900), 413) == "too_many_files"  # by their bytes
    assert add(empty).status_code == 200
    assert code(add(empty), 413) == "too_many_files"  # by their number


def test_answers_draw_on_the_library_and_on_the_conversations_documents(empty):
    def ask(session: str | None, text: str, who=ANN, **fields):
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 2} | fields
        body |= {} if session is None else {"session_id": session}
        return empty.client.post("/v1/chat/completions", json=body, headers=who).json().get("sources")

    here, there = f"s-{uuid.uuid4().hex[:8]}", f"s-{uuid.uuid4().hex[:8]}"
    question = "How high is the tower of Ulm?"
    library = add(empty).json()["id"]
    added = add(empty, pdf_of("The bridge of Ulm was built in 1912 of red stone."), "bridge.pdf", conversation_id=here)
    assert added.status_code == 200, added.text
    found = ask(there, question)
    assert "161 metres" in found["sources"][0]["passage"]
    assert found["sources"][0]["url"] == f"/d/{library}/0/tower.md"
    assert found["sources"][0]["site"] == "tower.md"
    bridge = ask(here, "Who built the bridge of Ulm of red stone?")
    assert any("1912" in source["passage"] for source in bridge["sources"])
    assert not any(
        "1912" in source["passage"] for source in (ask(there, "The bridge of red stone?") or found)["sources"]
    )
    # What names nothing of an attached document gets its beginning.
    third = f"s-{uuid.uuid4().hex[:8]}"
    add(empty, pdf_of("The bridge of Ulm was built in 1912 of red stone."), "bridge.pdf", conversation_id=third)
    assert "1912" in ask(third, "Please summarise it briefly")["sources"][0]["passage"]
    assert ask(None, question) is None
    assert ask(None, question, documents=True)["sources"]
    assert ask(there, question, documents=False) is None
    assert ask(there, question, who=BEN) is None
    for session in (here, third):
        assert empty.client.delete(f"/v1/conversations/{session}", headers=ANN).status_code == 200
    left = empty.client.get("/v1/files", headers=ANN).json()["data"]
    assert [file["id"] for file in left] == [library]


def test_a_file_that_takes_too_long_or_too_much_is_given_up(monkeypatch):
    monkeypatch.setattr("resonance.retrieval.documents.extract.SECONDS", 0.01)
    with pytest.raises(Unreadable, match="takes longer"):
        asyncio.run(extract_passages("a.txt", b"Some text."))


def row(owner: str, id: str, conversation: str | None = None) -> DocumentRow:
    return DocumentRow(
        owner=owner,
        id=id,
        conversation_id=conversation,
        name="a.txt",
        media_type="text/plain",
        purpose="user_data",
        content=b"\x00abc",
        passages=[("A", "abc")],
        created_at=datetime.now(UTC),
    )


def test_documents_count_against_the_quota_and_move_with_their_owner(url, owner):
    async def use(store: Store):
        async def stored(who: str) -> int:
            async with store.reading() as session:
                return await quota.stored_bytes(session, who)

        await store.append(owner, "c", [NewMessage("user", "Hi", new_message_id())], None)
        before = await stored(owner)
        await documents.add_document(store, row(owner, f"{owner}-1", "c"), max_count=2, max_bytes=100)
        await documents.add_document(store, row(owner, f"{owner}-2"), max_count=2, max_bytes=100)
        each = quota.ROW_BYTES + 4 + len('[["A", "abc"]]')
        assert await stored(owner) == before + 2 * each
        with pytest.raises(TooManyDocuments, match="2 documents"):
            await documents.add_document(store, row(owner, f"{owner}-3"), max_count=2, max_bytes=100)
        with pytest.raises(TooManyDocuments, match="10 bytes"):
            await documents.add_document(store, row(owner, f"{owner}-3"), max_count=9, max_bytes=10)
        assert [one.id for one in await documents.searchable(store, owner, None)] == [f"{owner}-2"]
        other = owner + "-other"
        assert (await move(store, owner, other)).documents == 2
        assert [one.owner for one in await holdings(store) if one.amount.documents and other == one.owner] == [other]
        assert await stored(other) == before + 2 * each
        whole = await documents.document(store, other, f"{owner}-1", whole=True)
        assert whole is not None
        assert (whole.content, whole.conversation_id) == (b"\x00abc", "c")
        assert await store.delete(other, "c")
        assert await documents.document(store, other, f"{owner}-1") is None
        assert await documents.delete_document(store, other, f"{owner}-2")
        assert not await documents.delete_document(store, other, f"{owner}-2")
        assert await stored(other) == 0

    on_store(url, use)
