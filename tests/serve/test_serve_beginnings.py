"""Answers that go on from a beginning which the request gives: continued, or forked at a word."""

import uuid

import pytest


@pytest.fixture
def session() -> str:
    return f"b-{uuid.uuid4().hex[:12]}"


def complete(server, messages, **fields):
    body = {"messages": messages, "max_tokens": 6, "temperature": 0, "repetition_penalty": 1} | fields
    response = server.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def messages_of(server, session):
    return server.client.get(f"/v1/conversations/{session}").json()["messages"]


def test_the_prompt_ends_with_the_answers_beginning(server):
    question = user("Name a sea.")
    bare = server.client.post("/v1/chat/prompt", json={"messages": [question]}).json()
    begun = server.client.post("/v1/chat/prompt", json={"messages": [question, assistant("The Baltic")]}).json()
    assert begun["text"] == bare["text"] + "The Baltic"


def test_only_what_is_new_is_sent_and_the_whole_answer_is_kept(server, session):
    answer = complete(server, [user("Name a sea."), assistant("The Baltic")], session_id=session)
    question, kept = messages_of(server, session)
    new = answer["choices"][0]["message"]["content"]
    assert (question["role"], kept["role"]) == ("user", "assistant")
    assert kept["content"] == "The Baltic" + new
    assert not new.startswith("The Baltic")


def test_a_stored_question_is_answered_again_without_being_stored_again(server, session):
    complete(server, [user("Name a sea.")], session_id=session)
    question = messages_of(server, session)[0]["id"]
    complete(server, [assistant("The North")], session_id=session, parent_id=question)
    stored = messages_of(server, session)
    assert [message["parent_id"] for message in stored] == [None, question, question]
    assert stored[2]["content"].startswith("The North")


def test_an_empty_beginning_asks_for_another_answer_to_a_stored_question(server, session):
    first = complete(server, [user("Name a sea.")], session_id=session)
    question = messages_of(server, session)[0]["id"]
    second = complete(server, [assistant("")], session_id=session, parent_id=question)
    assert second["choices"][0]["message"] == first["choices"][0]["message"]
    assert [message["parent_id"] for message in messages_of(server, session)] == [None, question, question]


@pytest.mark.parametrize("messages", [[assistant("x")], [user("a"), assistant("b"), assistant("c")]])
def test_a_beginning_without_a_question_is_refused(server, messages):
    response = server.client.post("/v1/chat/completions", json={"messages": messages})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_messages"


def test_a_beginning_after_a_stored_answer_is_refused(server, session):
    complete(server, [user("Name a sea.")], session_id=session)
    answer = messages_of(server, session)[1]["id"]
    body = {"messages": [assistant("x")], "session_id": session, "parent_id": answer}
    response = server.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "parent_id"


def test_a_beginning_longer_than_the_window_is_refused(server):
    body = {"messages": [user("a"), assistant("word " * 9000)]}
    response = server.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
