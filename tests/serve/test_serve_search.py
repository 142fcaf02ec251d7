"""Answers that draw on a search: a folder of documents, so that no network is needed."""

import json

import pytest

from resonance import Tokenizer

QUESTION = {"messages": [{"role": "user", "content": "What is the height of the Zugspitze?"}], "max_tokens": 3}


@pytest.fixture(scope="module")
def searching(launch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    (folder / "mountains.md").write_text("# Mountains\n\nThe Zugspitze has a height of 2962 metres above the sea.\n")
    (folder / "rivers.md").write_text("# Rivers\n\nThe Isar is a river that flows through Munich.\n")
    return launch("checkpoint=tiny", "search=documents", f"search.path={folder}")


def test_health_says_whose_search_it_is(searching):
    assert searching.client.get("/health").json()["search"] == {
        "enabled": True,
        "provider": "documents",
        "sources": ["documents"],
    }


def test_a_request_chooses_where_to_search_and_is_refused_what_is_not_there(searching):
    def ask(search: object):
        return searching.client.post("/v1/chat/completions", json=QUESTION | {"search": search})

    own = ask({"sources": ["documents"], "query": "river Isar"}).json()["sources"]
    assert own["sources"][0]["kind"] == "document" and "Munich" in own["sources"][0]["passage"]
    assert ask({"sources": ["documents"]}).json()["sources"]["sources"]
    refused = ask({"sources": ["web", "documents"]})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "search.sources"
    assert "does not search web; it searches documents" in refused.json()["error"]["message"]
    for wrong in ({"sources": []}, {"sources": ["mail"]}, {"when": "auto"}, {"sources": ["web"], "when": "now"}):
        assert ask(wrong).status_code == 400, wrong


def test_sources_come_before_the_first_token_and_are_kept_with_the_answer(searching):
    with searching.client.stream("POST", "/v1/chat/stream", json=QUESTION | {"session_id": "s"}) as response:
        lines = list(response.iter_lines())
    assert lines[1] == "event: sources"
    sources = json.loads(lines[2].removeprefix("data: "))
    assert sources["provider"] == "documents"
    assert "2962" in sources["sources"][0]["passage"]
    assert sources["sources"][0]["id"] == 1
    answer = searching.client.get("/v1/conversations/s").json()["messages"][1]
    assert {name: answer["sources"][name] for name in sources} == sources


def test_a_whole_answer_names_its_sources_and_its_prompt_has_them(searching):
    found = searching.client.post("/v1/chat/completions", json=QUESTION).json()
    plain = searching.client.post("/v1/chat/completions", json=QUESTION | {"search": False}).json()
    assert "2962" in found["sources"]["sources"][0]["passage"]
    assert plain["sources"] is None
    assert found["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"] + 5
    assert searching.client.get("/v1/models").status_code == 200


def test_a_query_of_ones_own_is_searched_for_instead(searching):
    own = searching.client.post("/v1/chat/completions", json=QUESTION | {"search": {"query": "river Isar"}}).json()
    assert own["sources"]["query"] == "river Isar"
    assert own["sources"]["reason"] == "the query was given"
    assert "Munich" in own["sources"]["sources"][0]["passage"]
    for wrong in ({}, {"query": ""}, {"query": "x" * 501}, {"query": "x", "k": 1}, "river"):
        refused = searching.client.post("/v1/chat/completions", json=QUESTION | {"search": wrong})
        assert refused.status_code == 400, wrong


def test_a_conversation_keeps_its_choice_of_sources_until_it_is_changed(searching):
    client = searching.client

    def ask(**fields) -> bool:
        answer = client.post("/v1/chat/completions", json=QUESTION | {"session_id": "choice"} | fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["sources"] is not None

    def choice() -> str | None:
        return client.get("/v1/conversations/choice").json()["search_sources"]

    assert ask(search_sources="off") is False and choice() == "off"
    assert ask() is False
    assert ask(search_sources="documents") and ask(search=True) and choice() == "off"
    changed = client.patch("/v1/conversations/choice", json={"search_sources": "documents"})
    assert changed.json()["search_sources"] == "documents" and ask()
    assert ask(search=False) is False and ask(search_sources="off") is False and choice() == "documents"
    assert client.patch("/v1/conversations/choice", json={"title": "Peaks"}).json()["search_sources"] == "documents"
    assert client.patch("/v1/conversations/choice", json={"search_sources": None}).status_code == 200
    assert choice() is None and ask()
    for path, body in (("/v1/conversations/choice", {}), ("/v1/chat/completions", QUESTION)):
        send = client.patch if "choice" in path else client.post
        for wrong, code in (("web", "search_disabled"), ("both", "search_disabled"), ("mail", "invalid_value")):
            refused = send(path, json=body | {"search_sources": wrong})
            assert refused.status_code == 400, wrong
            error = refused.json()["error"]
            assert (error["param"], error["code"]) == ("search_sources", code)


def test_a_stream_says_why_there_was_a_search_or_none(searching):
    def event(name: str, **fields) -> dict | None:
        with searching.client.stream("POST", "/v1/chat/stream", json=QUESTION | fields) as response:
            lines = list(response.iter_lines())
        if f"event: {name}" not in lines:
            return None
        return json.loads(lines[lines.index(f"event: {name}") + 1].removeprefix("data: "))

    hello = [{"role": "user", "content": "Hello there!"}]
    found = event("sources")
    assert found["reason"].startswith("asks ") and found["problem"] is None
    assert found["why"] == {"code": "named_fact", "subject": "Zugspitze", "follows": False}
    why = {"code": "small_talk", "subject": None, "follows": False}
    assert event("search", messages=hello) == {"searched": False, "reason": "small talk", "why": why}
    assert event("search", search=False) is None
    assert event("search") is None


def test_openai_clients_get_the_sources_in_a_chunk_and_no_event_that_they_do_not_know(searching):
    with searching.client.stream("POST", "/v1/chat/completions", json=QUESTION | {"stream": True}) as response:
        lines = list(response.iter_lines())
    assert not any(line.startswith("event:") for line in lines)
    first = json.loads(next(line for line in lines if line.startswith("data: ")).removeprefix("data: "))
    assert "2962" in first["sources"]["sources"][0]["passage"]


def saying(*words: str) -> dict:
    """Fields that make any model say these tokens in this order: each is biased a little less than the one before,
    and what has been said is held back until all have."""
    ids = [Tokenizer.gpt2().encode(word) for word in words]
    assert all(len(token) == 1 for token in ids)
    bias = {str(token[0]): 100 - 0.4 * place for place, token in enumerate(ids)}
    return {"logit_bias": bias, "frequency_penalty": 2, "temperature": 0, "max_tokens": len(words)}


def text_of(response) -> str:
    return response["choices"][0]["message"]["content"]


def test_the_answers_sentences_are_held_against_the_sources_and_kept_with_them(searching):
    said = QUESTION | saying(" height", " metres", " [", "1", "]") | {"session_id": "supported"}
    answer = searching.client.post("/v1/chat/completions", json=said).json()
    assert text_of(answer) == " height metres [1]"
    assert answer["sources"]["supports"] == {"1": [0]}
    (sentence,) = answer["sources"]["sentences"]
    assert (sentence["cited"], sentence["sources"], sentence["matched"]) == ([1], [1], True)
    assert text_of(answer)[sentence["start"] : sentence["end"]] == sentence["text"]
    kept = searching.client.get("/v1/conversations/supported").json()["messages"][1]
    assert kept["sources"] == answer["sources"]


def test_a_number_that_no_source_has_is_never_shown_nor_kept(searching):
    said = QUESTION | saying(" height", " metres", " [", "9", "]") | {"session_id": "unknown"}
    with searching.client.stream("POST", "/v1/chat/stream", json=said) as response:
        events = events_of(response)
    shown = "".join(data["choices"][0]["delta"].get("content", "") for name, data in events if is_chunk(name, data))
    assert shown == " height metres"
    assert searching.client.get("/v1/conversations/unknown").json()["messages"][1]["content"] == shown
    plain = searching.client.post("/v1/chat/completions", json=said | {"search": False, "session_id": "plain"}).json()
    assert text_of(plain) == " height metres [9]"  # without sources it is none of our business


def test_where_a_search_found_nothing_no_number_is_shown(searching):
    said = {"messages": [{"role": "user", "content": "Who painted the Mona Lisa?"}]} | saying(
        " Leonardo", " [", "1", "]"
    )
    answer = searching.client.post("/v1/chat/completions", json=said).json()
    assert answer["sources"]["note"] == "The search found nothing."
    assert text_of(answer) == " Leonardo"


def events_of(response) -> list[tuple[str | None, dict]]:
    """The stream's events but the last, each as its name and data."""
    events, name = [], None
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: {"):
            events.append((name, json.loads(line.removeprefix("data: "))))
            name = None
    return events


def is_chunk(name, data) -> bool:
    return name is None and bool(data["choices"])


def test_a_stream_says_at_its_end_what_each_source_supports(searching):
    said = QUESTION | saying(" height", " metres", " [", "1", "]")
    with searching.client.stream("POST", "/v1/chat/stream", json=said) as response:
        events = events_of(response)
    names = [name for name, _ in events]
    assert names[0] == "sources"
    assert names[-3:] == ["citations", None, None]  # the last chunk and the usage follow
    citations = events[-3][1]
    assert citations["supports"] == {"1": [0]}
    assert citations["sentences"][0]["text"].strip() == "height metres [1]"
    with searching.client.stream("POST", "/v1/chat/completions", json=said | {"stream": True}) as response:
        chunks = events_of(response)
    assert {name for name, _ in chunks} == {None}
    assert chunks[-1][1]["citations"] == citations


def test_search_true_searches_where_the_server_would_not(searching):
    greeting = {"messages": [{"role": "user", "content": "Write a poem about the Isar"}], "max_tokens": 3}
    assert searching.client.post("/v1/chat/completions", json=greeting).json()["sources"] is None
    forced = searching.client.post("/v1/chat/completions", json=greeting | {"search": True}).json()
    assert "Munich" in forced["sources"]["sources"][0]["passage"]


def test_the_schema_describes_the_streams_own_events(searching):
    schema = searching.client.get("/openapi.json").json()
    events = schema["paths"]["/v1/chat/stream"]["post"]["responses"]["200"]["content"]["text/event-stream"]["x-events"]
    assert set(events) == {"sources", "search", "citations", "error"}
    for reference in events.values():
        assert reference["$ref"].rpartition("/")[2] in schema["components"]["schemas"]


def test_the_prompt_that_is_shown_has_the_sources_in_it(searching):
    prompt = searching.client.post("/v1/chat/prompt", json=QUESTION).json()
    assert "[1] Mountains" in prompt["text"]
    assert "2962" in prompt["sources"]["sources"][0]["passage"]


def test_small_talk_is_not_searched_for(searching):
    greeting = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 3}
    assert searching.client.post("/v1/chat/completions", json=greeting).json()["sources"] is None
