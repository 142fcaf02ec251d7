"""An answer under way outlives its reader: it is followed, stopped and measured from anywhere."""

import asyncio
import json
import uuid

import pytest

from serve.storage.store import NewMessage, Store, new_message_id


def body(session=None, **more):
    given = {"messages": [{"role": "user", "content": "Go on for long"}], "logit_bias": {"50256": -100}, "seed": 1}
    return given | ({} if session is None else {"session_id": session}) | more


def data_of(lines):
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def leave_after_one_event(server, request):
    """Begin a stream, hang up after its first event, and return that."""
    with server.client.stream("POST", "/v1/chat/stream", json=request) as response:
        assert response.status_code == 200
        return next(json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {"))


def conversation(server, session):
    return server.client.get(f"/v1/conversations/{session}").json()


def test_a_stored_conversations_answer_goes_on_without_its_reader_and_is_followed_from_its_start(server):
    session = uuid.uuid4().hex
    first = leave_after_one_event(server, body(session, max_tokens=500))
    assert conversation(server, session)["answering"] == first["id"]
    with server.client.stream("GET", f"/v1/chat/stream/{first['id']}") as response:
        events = data_of(response.iter_lines())
    assert events[0] == first
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
    found = conversation(server, session)
    assert found["answering"] is None
    assert [message["content"] for message in found["messages"]] == ["Go on for long", text]
    assert found["messages"][1]["timing"] == events[-1]["timing"]
    assert events[-1]["timing"]["tokens_per_s"] > 0


def test_an_answer_that_is_stopped_is_stored_by_then_and_its_conversation_is_free(server):
    session = uuid.uuid4().hex
    first = leave_after_one_event(server, body(session, max_tokens=8000))
    path = f"/v1/chat/stream/{first['id']}"
    assert server.client.delete(path).json() == {
        "id": first["id"],
        "object": "chat.completion.stopped",
        "stopped": True,
    }
    found = conversation(server, session)
    assert found["answering"] is None
    assert found["messages"][1]["finish_reason"] == "cancelled"
    assert server.until(lambda: server.client.delete(f"/v1/conversations/{session}").status_code == 200)
    assert server.client.delete(path).status_code == 200  # once more: it stays stopped
    assert server.client.delete("/v1/chat/stream/nobody").status_code == 404


def test_an_answer_of_no_conversation_ends_with_its_connection(server):
    cancelled = server.metric("resonance_cancelled_requests_total")
    leave_after_one_event(server, body(max_tokens=8000))
    assert server.until(lambda: server.metric("resonance_cancelled_requests_total") == cancelled + 1)


def test_tokens_are_counted_as_the_prompt_will_have_them_and_too_many_are_no_error(server):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many tokens are these?"}]
    size = server.client.post("/v1/chat/tokens", json={"messages": messages, "max_tokens": 100}).json()
    prompt = server.client.post("/v1/chat/prompt", json={"messages": messages, "search": False}).json()
    assert size["prompt_tokens"] == prompt["prompt_tokens"]
    assert size["message_tokens"] == 6
    assert (size["room"], size["answer_tokens"], size["fits"]) == (prompt["context_length"] - 100, 100, True)
    long = {"messages": [{"role": "user", "content": "no " * 9000}], "max_tokens": 100}
    size = server.client.post("/v1/chat/tokens", json=long).json()
    assert not size["fits"]
    refused = server.client.post("/v1/chat/completions", json=long).json()["error"]
    assert refused["code"] == "context_length_exceeded"
    assert str(size["prompt_tokens"]) in refused["message"]


def test_the_card_tells_the_operators_sampling(server):
    (card, *_) = server.client.get("/v1/models").json()["data"]
    assert card["resonance"]["sampling"] == {
        "max_new_tokens": 256, "temperature": 0.7, "top_k": 50, "top_p": 0.95, "min_p": 0.0, "repetition_penalty": 1.0,
    }  # fmt: skip


def test_a_format_holds_an_answer_that_is_made_anew(server):
    session = uuid.uuid4().hex
    form = {"response_format": {"type": "json_object"}, "max_tokens": 60}
    first = server.client.post("/v1/chat/completions", json=body(session) | form)
    assert first.status_code == 200
    question = conversation(server, session)["messages"][0]["id"]
    again = {"messages": [{"role": "assistant", "content": ""}], "parent_id": question}
    answer = server.client.post("/v1/chat/completions", json=body(session) | form | again)
    assert answer.status_code == 200, answer.text
    json.loads(answer.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("questions", "titles"),
    [
        (
            ["Why is the sky blue?"] * 3,
            ["Why is the sky blue?", "Why is the sky blue? (2)", "Why is the sky blue? (3)"],
        ),
        (
            [
                f"Translate the following sentence into German, word by word, please: I like {it}"
                for it in ("ox", "ant")
            ],
            [
                "Translate the following sentence into German, word by word,…",
                "Translate the following … by word, please: I like ant",
            ],
        ),
        ([""], [""]),
    ],
)
def test_titles_are_the_questions_own_words_and_told_apart_when_they_are_equal(tmp_path, questions, titles):
    async def main():
        store = Store(f"sqlite:///{tmp_path / 'titles.sqlite'}")
        await store.open()
        try:
            for n, text in enumerate(questions):
                await store.append("me", f"c{n}", [NewMessage("user", text, new_message_id())], None)
            rows, _ = await store.page("me", limit=10, after=None, query=None)
            return sorted((row.id, row.title) for row, _ in rows)
        finally:
            await store.close()

    assert [title for _, title in asyncio.run(main())] == titles
