"""Answers that draw on a search: a folder of documents, so that no network is needed."""

import json

import pytest

QUESTION = {"messages": [{"role": "user", "content": "What is the height of the Zugspitze?"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def searching(launch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    (folder / "mountains.md").write_text("# Mountains\n\nThe Zugspitze has a height of 2962 metres above the sea.\n")
    (folder / "rivers.md").write_text("# Rivers\n\nThe Isar is a river that flows through Munich.\n")
    return launch("checkpoint=tiny", "search=documents", f"search.path={folder}")


def test_health_says_whose_search_it_is(searching):
    assert searching.client.get("/health").json()["search"] == {"enabled": True, "provider": "documents"}


def test_sources_come_before_the_first_token_and_are_kept_with_the_answer(searching):
    with searching.client.stream("POST", "/v1/chat/stream", json=QUESTION | {"session_id": "s"}) as response:
        lines = list(response.iter_lines())
    assert lines[1] == "event: sources"
    sources = json.loads(lines[2].removeprefix("data: "))
    assert sources["provider"] == "documents"
    assert "2962" in sources["sources"][0]["passage"]
    assert sources["sources"][0]["id"] == 1
    answer = searching.client.get("/v1/conversations/s").json()["messages"][1]
    assert answer["sources"] == sources


def test_a_whole_answer_names_its_sources_and_its_prompt_has_them(searching):
    found = searching.client.post("/v1/chat/completions", json=QUESTION).json()
    plain = searching.client.post("/v1/chat/completions", json=QUESTION | {"search": False}).json()
    assert "2962" in found["sources"]["sources"][0]["passage"]
    assert plain["sources"] is None
    assert found["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"] + 5
    assert searching.client.get("/v1/models").status_code == 200


def test_openai_clients_get_the_sources_in_a_chunk_and_no_event_that_they_do_not_know(searching):
    with searching.client.stream("POST", "/v1/chat/completions", json=QUESTION | {"stream": True}) as response:
        lines = list(response.iter_lines())
    assert not any(line.startswith("event:") for line in lines)
    first = json.loads(next(line for line in lines if line.startswith("data: ")).removeprefix("data: "))
    assert "2962" in first["sources"]["sources"][0]["passage"]


def test_small_talk_is_not_searched_for(searching):
    greeting = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 3}
    assert searching.client.post("/v1/chat/completions", json=greeting).json()["sources"] is None
