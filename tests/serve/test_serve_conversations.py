"""Stored conversations over HTTP: what is kept, what the model sees of it, and how it is found again."""

import json
import threading
import time
import uuid

import httpx
import pytest


@pytest.fixture
def session() -> str:
    return f"s-{uuid.uuid4().hex[:12]}"


def say(server, session, text, **fields):
    body = {"messages": [{"role": "user", "content": text}], "session_id": session, "max_tokens": 4, "seed": 1}
    response = server.client.post("/v1/chat/completions", json=body | fields)
    assert response.status_code == 200, response.text
    return response.json()


def stored(server, session):
    response = server.client.get(f"/v1/conversations/{session}")
    assert response.status_code == 200
    return response.json()


def test_both_turns_are_kept_with_the_answers_id_model_usage_and_reason(server, session):
    answer = say(server, session, "How are you?")
    conversation = stored(server, session)
    assert conversation["title"] == "How are you?"
    assert conversation["message_count"] == 2
    user, assistant = conversation["messages"]
    assert (user["role"], user["content"], user["parent_id"]) == ("user", "How are you?", None)
    assert assistant["id"] == answer["id"]
    assert assistant["parent_id"] == user["id"]
    assert assistant["content"] == answer["choices"][0]["message"]["content"]
    assert assistant["finish_reason"] == answer["choices"][0]["finish_reason"]
    assert assistant["model"] == "tiny"
    assert assistant["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]
    assert 0 <= assistant["timing"]["first_token_s"] < 60
    assert assistant["timing"]["tokens_per_s"] > 0
    assert user["timing"] is None
    assert assistant["created_at"].endswith("Z")
    assert user["created_at"] <= assistant["created_at"]


def test_without_a_session_nothing_is_kept(server):
    before = server.client.get("/v1/conversations?limit=100").json()["data"]
    server.client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}], "max_tokens": 1})
    assert server.client.get("/v1/conversations?limit=100").json()["data"] == before


def test_the_model_sees_the_turns_before(server, session):
    first = say(server, session, "My name is Ada.")
    second = say(server, session, "What is my name?")
    assert second["usage"]["messages_kept"] == 3
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"] + 4
    assert stored(server, session)["message_count"] == 4


def test_a_system_prompt_is_kept_once_and_holds_for_later_turns(server, session):
    system = {"role": "system", "content": "Answer in one word."}
    for text in ("One", "Two"):
        say(server, session, text, messages=[system, {"role": "user", "content": text}])
    third = say(server, session, "Three")
    assert third["usage"]["messages_kept"] == 6
    assert [m["role"] for m in stored(server, session)["messages"]].count("system") == 1


def test_a_branch_starts_where_the_parent_says(server, session):
    say(server, session, "One")
    one = stored(server, session)["messages"]
    say(server, session, "Two")
    branch = say(server, session, "Instead of two", parent_id=one[1]["id"])
    assert branch["usage"]["messages_kept"] == 3
    fresh = say(server, session, "Another beginning", parent_id=None)
    assert fresh["usage"]["messages_kept"] == 1
    messages = stored(server, session)["messages"]
    parents = {m["content"]: m["parent_id"] for m in messages if m["role"] == "user"}
    assert parents["Two"] == parents["Instead of two"] == one[1]["id"]
    assert parents["Another beginning"] is None
    unknown = server.client.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "x"}], "session_id": session, "parent_id": "msg-nobody"},
    )
    assert unknown.status_code == 404


def test_a_stream_names_its_session_and_is_kept_when_its_end_is_read(server, session):
    body = {"messages": [{"role": "user", "content": "Hello"}], "session_id": session, "max_tokens": 5}
    with server.client.stream("POST", "/v1/chat/stream", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        lines = list(response.iter_lines())
    assert f'"session_id": "{session}"' in lines[1]
    assert lines[-2:] == ["data: [DONE]", ""]
    assert stored(server, session)["message_count"] == 2


def test_two_requests_for_one_session_at_a_time_are_not_served(server, session):
    long = {"messages": [{"role": "user", "content": "Talk"}], "session_id": session, "max_tokens": 8000,
            "logit_bias": {"50256": -100}}  # fmt: skip
    with server.client.stream("POST", "/v1/chat/stream", json=long) as response:
        lines = response.iter_lines()
        next(lines)
        second = server.client.post("/v1/chat/completions", json=long | {"max_tokens": 1})
        assert second.status_code == 409
        assert second.json()["error"]["code"] == "session_busy"
        assert server.client.delete(f"/v1/conversations/{session}").status_code == 409
    assert server.until(
        lambda: server.client.post("/v1/chat/completions", json=long | {"max_tokens": 1}).status_code == 200
    )


def test_an_answer_whose_reader_leaves_is_kept_as_far_as_it_came(server, session):
    body = {"messages": [{"role": "user", "content": "Talk"}], "session_id": session, "max_tokens": 8000,
            "logit_bias": {"50256": -100}}  # fmt: skip
    with server.client.stream("POST", "/v1/chat/stream", json=body) as response:
        lines = response.iter_lines()
        for _ in range(30):
            next(lines)
        assert stored(server, session)["messages"][0]["content"] == "Talk"  # before the answer is complete
    assert server.until(lambda: stored(server, session)["message_count"] == 2)
    answer = stored(server, session)["messages"][1]
    assert answer["finish_reason"] == "cancelled"
    assert 0 < answer["usage"]["completion_tokens"] < 8000
    assert answer["content"]


def test_conversations_are_listed_newest_first_in_pages_and_found_by_words(server):
    mark = uuid.uuid4().hex[:8]
    sessions = [f"{mark}-{i}" for i in range(5)]
    for i, session in enumerate(sessions):
        say(server, session, f"{mark} Question number {i}", max_tokens=1)
    query = f"/v1/conversations?q={mark.upper()}&limit=2"
    first = server.client.get(query).json()
    second = server.client.get(f"{query}&after={first['data'][-1]['id']}").json()
    third = server.client.get(f"{query}&after={second['data'][-1]['id']}").json()
    assert [c["id"] for page in (first, second, third) for c in page["data"]] == sessions[::-1]
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert server.client.get(f"/v1/conversations?q={mark}%25").json()["data"] == []
    assert first["object"] == "list"
    assert set(first["data"][0]) == {
        "id", "title", "created_at", "updated_at", "message_count", "snippet", "pinned", "archived", "folder",
        "search_sources",
    }  # fmt: skip


def test_a_search_shows_the_passage_that_it_found(server, session):
    mark = uuid.uuid4().hex[:8]
    text = (
        f"It was a long evening by the sea, and somebody\ntold of the {mark.upper()} keeper, who had never once left."
    )
    say(server, session, text + " And so on." * 30, max_tokens=1)
    server.client.patch(f"/v1/conversations/{session}", json={"title": "The evening"})
    (found,) = server.client.get("/v1/conversations", params={"q": f"{mark} keeper"}).json()["data"]
    snippet = found["snippet"]
    assert (snippet["hit"], snippet["role"]) == (f"{mark.upper()} keeper", "user")
    assert snippet["before"] == "…sea, and somebody told of the "
    assert snippet["after"].startswith(", who had never once left. And so on.")
    assert snippet["after"].endswith("…")
    assert snippet["message_id"] == stored(server, session)["messages"][0]["id"]
    (titled,) = server.client.get("/v1/conversations", params={"q": "the evening"}).json()["data"][:1]
    assert titled["title"] == "The evening"
    assert titled["snippet"] is None


def test_a_conversation_is_renamed_rated_and_deleted(server, session):
    answer = say(server, session, "Is this good?")
    renamed = server.client.patch(f"/v1/conversations/{session}", json={"title": "A better title"})
    assert renamed.json()["title"] == "A better title"
    path = f"/v1/conversations/{session}/messages/{answer['id']}/feedback"
    server.client.put(path, json={"rating": 1})
    server.client.put(path, json={"rating": -1, "comment": "No.", "correction": "Yes, it is."})
    feedback = stored(server, session)["messages"][1]["feedback"]
    assert feedback == {"rating": -1, "comment": "No.", "correction": "Yes, it is."}
    assert server.client.put(path, json={"rating": 2}).status_code == 400
    assert server.client.put(path.replace(answer["id"], "msg-x"), json={"rating": 1}).status_code == 404
    user = stored(server, session)["messages"][0]["id"]
    assert server.client.put(path.replace(answer["id"], user), json={"rating": 1}).status_code == 404
    assert server.client.delete(f"/v1/conversations/{session}").json() == {
        "id": session, "object": "conversation.deleted", "deleted": True,
    }  # fmt: skip
    for response in (
        server.client.get(f"/v1/conversations/{session}"),
        server.client.delete(f"/v1/conversations/{session}"),
        server.client.patch(f"/v1/conversations/{session}", json={"title": "x"}),
    ):
        assert response.status_code == 404


def test_many_sessions_at_once_keep_their_own_turns(server):
    mark = uuid.uuid4().hex[:8]

    def talk(i: int) -> None:
        for turn in range(2):
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                body = {"messages": [{"role": "user", "content": f"{mark} {i} {turn}"}], "session_id": f"{mark}-{i}",
                        "max_tokens": 2}  # fmt: skip
                response = server.client.post("/v1/chat/completions", json=body)
                if response.status_code != 429:
                    break
                time.sleep(0.05)

    threads = [threading.Thread(target=talk, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(8):
        messages = stored(server, f"{mark}-{i}")["messages"]
        assert [m["content"] for m in messages if m["role"] == "user"] == [f"{mark} {i} {turn}" for turn in range(2)]
        assert [m["parent_id"] for m in messages] == [None, *[m["id"] for m in messages[:-1]]]


def bring_in(server, lines: str) -> httpx.Response:
    headers = {"Content-Type": "application/x-ndjson"}
    return server.client.post("/v1/conversations.jsonl", content=lines, headers=headers)


def test_conversations_are_exported_deleted_and_imported_as_they_were(server, session):
    answer = say(server, session, "To be kept")
    say(server, session, "And this")
    path = f"/v1/conversations/{session}"
    server.client.put(f"{path}/messages/{answer['id']}/feedback", json={"rating": 1, "comment": "Good."})
    before = stored(server, session)
    exported = server.client.get("/v1/conversations.jsonl")
    assert exported.headers["content-type"].startswith("application/x-ndjson")
    line = next(line for line in exported.text.splitlines() if session in line)
    assert bring_in(server, line).json() == {"imported": 0, "skipped": 1}
    server.client.delete(path)
    assert bring_in(server, line + "\n").json() == {"imported": 1, "skipped": 0}
    assert stored(server, session) == before
    assert say(server, session, "It goes on")["usage"]["messages_kept"] == 5


def test_training_data_comes_in_as_conversations_and_the_same_only_once(server):
    mark = uuid.uuid4().hex
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"Sum up {mark}.", "context": "A long text."},
        {"role": "assistant", "content": "Short."},
    ]
    line = json.dumps({"messages": turns, "family": "summary"})
    for expected in ({"imported": 1, "skipped": 0}, {"imported": 0, "skipped": 1}):
        assert bring_in(server, line).json() == expected
    (found,) = server.client.get("/v1/conversations", params={"q": mark}).json()["data"]
    assert found["title"] == f"Sum up {mark}."
    messages = stored(server, found["id"])["messages"]
    assert [message["content"] for message in messages] == ["Be brief.", f"Sum up {mark}.\n\nA long text.", "Short."]
    assert [message["parent_id"] for message in messages] == [None, *[message["id"] for message in messages[:-1]]]
    assert say(server, found["id"], "Go on")["usage"]["messages_kept"] == 4


def test_the_same_line_from_many_at_once_comes_in_once(server):
    line = json.dumps({"messages": [{"role": "user", "content": uuid.uuid4().hex}]})
    answers: list[dict] = []
    threads = [threading.Thread(target=lambda: answers.append(bring_in(server, line).json())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["imported"] for answer in answers) == [0] * 7 + [1]


def test_all_conversations_are_deleted_at_once(server, session):
    say(server, session, "One")
    say(server, f"{session}-2", "Two")
    assert server.until(lambda: server.client.delete("/v1/conversations").status_code == 200)
    assert server.client.get("/v1/conversations").json()["data"] == []
    assert server.client.delete("/v1/conversations").json() == {"object": "conversations.deleted", "deleted": 0}


@pytest.mark.parametrize(
    "line", ['{"messages": []}', '{"messages": [{"role": "user"}]}', "{", "[]", '{"id": "x"}', "null"]
)
def test_a_line_that_is_no_conversation_is_named_and_nothing_comes_in(server, session, line):
    good = {"id": session, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "messages": []}
    response = bring_in(server, f"{json.dumps(good)}\n{line}\n")
    assert response.status_code == 400
    assert "Line 2" in response.json()["error"]["message"]
    assert server.client.get(f"/v1/conversations/{session}").status_code == 404


def test_one_message_is_deleted_and_what_followed_it_follows_the_one_before(server, session):
    say(server, session, "One")
    say(server, session, "Two")
    one, answer, two, last = stored(server, session)["messages"]
    path = f"/v1/conversations/{session}/messages"
    assert server.client.delete(f"{path}/{answer['id']}").json() == {
        "id": answer["id"], "object": "conversation.message.deleted", "deleted": True,
    }  # fmt: skip
    left = stored(server, session)["messages"]
    assert [(m["id"], m["parent_id"]) for m in left] == [
        (one["id"], None), (two["id"], one["id"]), (last["id"], two["id"]),
    ]  # fmt: skip
    assert say(server, session, "Three")["usage"]["messages_kept"] == 4
    server.client.delete(f"{path}/{one['id']}")
    assert stored(server, session)["messages"][0]["parent_id"] is None
    for gone in (f"{path}/{one['id']}", f"{path.replace(session, 'other')}/{two['id']}"):
        assert server.client.delete(gone).status_code == 404


def test_the_prompt_is_shown_as_the_model_reads_it_and_nothing_is_kept(server, session):
    answer = say(server, session, "My name is Ada.")
    before = stored(server, session)
    body = {"messages": [{"role": "user", "content": "What is my näme? 🌍"}], "session_id": session}
    prompt = server.client.post("/v1/chat/prompt", json=body).json()
    assert "My name is Ada." in prompt["text"]
    assert answer["choices"][0]["message"]["content"].strip() in prompt["text"]
    assert "What is my näme? 🌍" in prompt["text"]
    assert [token["id"] for token in prompt["tokens"]] == prompt["token_ids"]
    assert prompt["prompt_tokens"] == len(prompt["token_ids"])
    assert (prompt["messages_kept"], prompt["messages_dropped"]) == (3, 0)
    assert stored(server, session) == before
    real = server.client.post("/v1/chat/completions", json=body | {"max_tokens": 1}).json()
    assert real["usage"]["prompt_tokens"] == prompt["prompt_tokens"]
    raw = {"prompt": prompt["token_ids"], "max_tokens": 1, "echo": True}
    assert server.client.post("/v1/completions", json=raw).json()["choices"][0]["text"].startswith(prompt["text"])
    assert server.client.post("/v1/chat/prompt", json={"messages": []}).status_code == 400
