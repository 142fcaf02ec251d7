"""What readers think of answers comes back as data that training reads: feedback, corrections, votes."""

import json
import uuid

import pytest

from data.sources import FileSource

SETTINGS = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "max_tokens": 8, "seed": 3}


@pytest.fixture(scope="module")
def server(launch, tmp_path_factory):
    """A server of our own: whole exports are looked at."""
    folder = tmp_path_factory.mktemp("documents")
    (folder / "mountains.md").write_text("# Mountains\n\nThe Zugspitze has a height of 2962 metres above the sea.\n")
    return launch("checkpoint=[tiny,other]", "search=documents", f"search.path={folder}")


@pytest.fixture
def session(server) -> str:
    server.client.delete("/v1/conversations")
    return f"s-{uuid.uuid4().hex[:12]}"


def say(server, session, text, **fields) -> str:
    body = {"messages": [{"role": "user", "content": text}], "session_id": session, "max_tokens": 4, "search": False}
    answer = server.client.post("/v1/chat/completions", json=body | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def rate(server, session, message, rating, correction=None) -> None:
    path = f"/v1/conversations/{session}/messages/{message}/feedback"
    assert server.client.put(path, json={"rating": rating, "correction": correction}).status_code == 200


def rows(server, path) -> list[dict]:
    response = server.client.get(path)
    assert response.status_code == 200
    assert response.headers["content-disposition"].startswith("attachment")
    return [json.loads(line) for line in response.text.splitlines()]


def spoken(row) -> list[str]:
    return [turn["content"] for turn in row["messages"] if turn["role"] != "assistant"]


def vote(server, choice="a", **fields):
    side = {"model": "tiny", "settings": SETTINGS, "content": "Warm."}
    body = {
        "prompt": [{"role": "user", "content": "The opposite of hot?"}],
        "a": side,
        "b": side | {"model": "other", "content": "Cold."},
    }
    return server.client.post("/v1/votes", json=body | {"choice": choice} | fields)


def test_training_learns_what_was_approved_with_corrections_in_their_place(server, session):
    first = say(server, session, "One")
    say(server, session, "Two")
    rate(server, session, first, -1, "The first answer, corrected.")
    assert [spoken(row) for row in rows(server, "/v1/training.jsonl")] == [["One"]]
    third = say(server, session, "Three")
    rate(server, session, third, 1)
    (row,) = rows(server, "/v1/training.jsonl")
    assert spoken(row) == ["One", "Two", "Three"]
    assert row["messages"][1] == {"role": "assistant", "content": "The first answer, corrected."}
    assert (row["family"], row["message"], row["model"], row["corrected"]) == ("feedback", third, "tiny", False)


def test_an_example_begins_anew_behind_a_bad_answer_and_keeps_the_system_prompt(server, session):
    system = {"role": "system", "content": "Be kind."}
    bad = say(server, session, "One", messages=[system, {"role": "user", "content": "One"}])
    good = say(server, session, "Two")
    rate(server, session, bad, -1)
    rate(server, session, good, 1)
    (row,) = rows(server, "/v1/training.jsonl")
    assert spoken(row) == ["Be kind.", "Two"]
    assert row["messages"][0]["role"] == "system"


def test_branches_are_examples_of_their_own_and_all_takes_the_unrated_too(server, session):
    first = say(server, session, "One")
    say(server, session, "Two")
    say(server, session, "Instead of two", parent_id=first)
    assert rows(server, "/v1/training.jsonl") == []
    found = rows(server, "/v1/training.jsonl?which=all")
    assert sorted(spoken(row) for row in found) == [["One", "Instead of two"], ["One", "Two"]]
    assert server.client.get("/v1/training.jsonl?which=some").status_code == 400


def test_what_a_search_had_found_is_the_context_of_the_example(server, session):
    answer = say(server, session, "What is the height of the Zugspitze?", search=True)
    rate(server, session, answer, 1)
    (row,) = rows(server, "/v1/training.jsonl")
    assert row["messages"][0]["context"].startswith("[1] Mountains")
    assert "2962" in row["messages"][0]["context"]


def test_data_reads_both_exports_as_instruction_data(server, session, tmp_path):
    answer = say(server, session, "What is the height of the Zugspitze?", search=True)
    rate(server, session, answer, -1, "2962 metres [1].")
    other = say(server, f"{session}-2", "Hello")
    rate(server, f"{session}-2", other, 1)
    vote(server, "b")
    for name in ("training", "preferences"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(server.client.get(f"/v1/{name}.jsonl").text)
        splits = FileSource(str(path), train=1.0, validation=0.0, test=0.0).splits()
        corrected = next(example for example in splits.train if example.answer == "2962 metres [1].")
        assert corrected.messages[0].context is not None
        assert "2962" in corrected.messages[0].context
        assert len(splits.train) == 2
        assert {example.family for example in splits.train} == {"feedback" if name == "training" else None}


def test_the_schema_describes_the_lines(server):
    schema = server.client.get("/openapi.json").json()
    for path, name in (("training", "Example"), ("preferences", "Preference"), ("conversations", "Conversation")):
        content = schema["paths"][f"/v1/{path}.jsonl"]["get"]["responses"]["200"]["content"]
        assert content["application/x-ndjson"]["x-line"] == {"$ref": f"#/components/schemas/{name}"}
        assert schema["components"]["schemas"][name]["properties"]["messages"]


def test_a_vote_keeps_the_prompt_both_answers_their_checkpoints_settings_and_the_choice(server, session):
    given = vote(server, "b").json()
    assert given["b"]["checkpoint"]["steps"] == 7
    assert given["a"]["settings"]["seed"] == 3
    assert server.client.get("/v1/votes").json()["data"][0] == given
    row = next(row for row in rows(server, "/v1/preferences.jsonl") if row["id"] == given["id"])
    assert row["prompt"] == [{"role": "user", "content": "The opposite of hot?", "context": None}]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("Cold.", "Warm.")
    assert [turn["content"] for turn in row["messages"]] == ["The opposite of hot?", "Cold."]
    assert row["chosen_by"]["model"] == "other"
    assert row["rejected_by"]["settings"]["top_k"] == 40
    assert server.client.delete(f"/v1/votes/{given['id']}").json()["deleted"] is True
    assert server.client.delete(f"/v1/votes/{given['id']}").status_code == 404
    assert all(row["id"] != given["id"] for row in rows(server, "/v1/preferences.jsonl"))


def test_a_tie_is_kept_and_prefers_nothing(server, session):
    tie = vote(server, "tie").json()
    assert server.client.get("/v1/votes").json()["data"][0]["choice"] == "tie"
    assert all(row["id"] != tie["id"] for row in rows(server, "/v1/preferences.jsonl"))


def test_a_correction_is_preferred_to_what_the_model_said(server, session):
    answer = say(server, session, "Say yes")
    rate(server, session, answer, -1, "Yes.")
    row = next(row for row in rows(server, "/v1/preferences.jsonl") if row["origin"] == "correction")
    assert row["chosen"][0]["content"] == "Yes."
    assert row["rejected"][0]["content"] != "Yes."
    assert (row["chosen_by"], row["rejected_by"]["model"]) == (None, "tiny")


@pytest.mark.parametrize(
    "fields",
    [{"choice": "c"}, {"prompt": []}, {"a": {"model": "tiny"}}, {"prompt": [{"role": "user", "content": 1}]}, {"x": 1}],
)
def test_a_vote_that_says_something_else_is_refused(server, fields):
    assert vote(server, **fields).status_code == 400


def test_a_vote_on_a_model_that_is_not_served_is_refused(server):
    assert vote(server, a={"model": "nobody", "content": "x"}).status_code == 404
