"""What checkpoints learned from a caller's judgements, withdrawn ones too; and how a model came into service."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from resonance.cli import promote
from tests.improved import BETTER, improve

from .conftest import Running, Start

CHAT = {"max_tokens": 3, "logit_bias": {"50256": -100}}


@pytest.fixture(scope="module")
def root(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(shutil.copytree(runs, tmp_path_factory.mktemp("learned") / "runs"))
    promote.main([f"root={root}", "verify=false", "run=tiny"])
    return root


@pytest.fixture(scope="module")
def learning(launch: Start, root: Path) -> Running:
    return launch("checkpoint=production", f"root={root}", "auth=none")


@pytest.fixture(scope="module")
def store(learning: Running) -> str:
    return f"sqlite:///{learning.log.parent / 'conversations.sqlite'}"


def ask(server: Running, session: str, question: str) -> str:
    """The path of an answer's feedback."""
    body = CHAT | {"session_id": session, "messages": [{"role": "user", "content": question}]}
    answer = server.client.post("/v1/chat/completions", json=body).json()["id"]
    return f"/v1/conversations/{session}/messages/{answer}/feedback"


def learned(server: Running, **query: object) -> dict[str, Any]:
    response = server.client.get("/v1/learned", params=query)
    assert response.status_code == 200, response.text
    return response.json()


def by_question(judgements: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    return {one["question"]: {each["checkpoint"]: each["use"] for each in one["checkpoints"]} for one in judgements}


def test_judgements_are_named_with_their_checkpoints_until_they_are_withdrawn_and_after(
    learning: Running, root: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESONANCE_HOME", str(learning.log.parent))
    put = learning.client.put
    assert learned(learning) == {
        "object": "learned", "checkpoints": [], "withdrawn": [], "data": [], "has_more": False,
    }  # fmt: skip
    first, second = ask(learning, "one", "Cold or hot?"), ask(learning, "two", "Up or down?")
    put(first, json={"rating": -1, "correction": "Hot."})
    put(second, json={"rating": -1, "correction": "Down."})
    side = {"model": "production", "content": "Red"}
    vote = {"prompt": [{"role": "user", "content": "Red or blue?"}], "a": side, "b": side | {"content": "Blue"}}
    voted = learning.client.post("/v1/votes", json=vote | {"choice": "b"}).json()["id"]
    # Without consent nothing is gathered.
    assert improve(root, store, "improve-20260101-000000", like="other", promoted=False) == []
    put("/v1/training-consent", json={"given": True})
    assert improve(root, store, "improve-20260102-000000", like="other")
    found = learned(learning)
    new = "improve-20260102-000000"
    assert [one["kind"] for one in found["data"]] == ["vote", "correction", "correction"]
    assert by_question(found["data"]) == {
        "Red or blue?": {},  # this one was not trained on pairs
        "Up or down?": {new: "trained"},
        "Cold or hot?": {new: "trained"},
    }
    states = [(one["checkpoint"], one["state"], one["yours"], one["judgements"]) for one in found["checkpoints"]]
    assert states == [(new, "in_service", 2, 2), ("improve-20260101-000000", "not_promoted", 0, 0)]
    # One is withdrawn, one is changed: later exports have neither's old form, and the checkpoint that has it is named.
    assert learning.client.delete(first).status_code == 200
    assert learning.client.delete(f"/v1/votes/{voted}").status_code == 200
    put(second, json={"rating": -1, "correction": "Below."})
    lines = improve(root, store, "improve-20260103-000000", like="tiny", test=0.999)
    assert {line["messages"][-1]["content"] for line in lines if line["kind"] == "example"} == {"Below."}
    found = learned(learning)
    newest = "improve-20260103-000000"
    assert by_question(found["data"]) == {"Up or down?": {newest: "measured"}}
    assert {(one["answer"], one["withdrawn"]) for one in found["withdrawn"]} == {("Hot.", True), ("Down.", True)}
    assert by_question(found["withdrawn"])["Cold or hot?"] == {new: "trained", newest: "inherited"}
    change = found["checkpoints"][0]["answers"]
    assert [(one["question"], one["expected"], one["before"], one["after"]) for one in change] == [
        ("Up or down?", "Below.", "no idea", "Below.")
    ]
    assert found["checkpoints"][0]["trained_from"] == new
    # The consent is withdrawn: nothing of it is in the next data set.
    put("/v1/training-consent", json={"given": False})
    assert improve(root, store, "improve-20260104-000000", like="other", promoted=False) == []


def test_the_model_tells_how_it_came_into_service_and_health_which_run_it_is(learning: Running, root: Path) -> None:
    newest = "improve-20260103-000000"
    assert learning.until(lambda: learning.client.get("/health").json()["model"]["checkpoint"] == newest)
    (card,) = learning.client.get("/v1/models").json()["data"]
    promotion = card["resonance"]["promotion"]
    assert (promotion["alias"], promotion["back"], promotion["judgements"]) == ("production", False, 0)
    assert promotion["lineage"] == ["improve-20260102-000000", "tiny"]
    assert promotion["evidence"] == [{"name": "better on held-out feedback", "sentence": BETTER}]
    promote.main([f"root={root}", "back=true"])
    assert learning.until(lambda: learning.client.get("/health").json()["model"]["checkpoint"] != newest)
    back = learning.client.get("/v1/models/production").json()["resonance"]["promotion"]
    assert (back["back"], back["judgements"], back["lineage"]) == (True, 2, ["tiny"])


def test_judgements_come_in_pages_newest_first(learning: Running) -> None:
    for number in range(3):
        learning.client.put(ask(learning, f"page-{number}", f"Page {number}?"), json={"rating": 1})
    questions: list[str] = []
    after: dict[str, object] = {}
    for _ in range(10):
        page = learned(learning, limit=2, **after)
        questions += [one["question"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["data"][-1]["id"]}
        assert learned(learning, limit=2, **after)["checkpoints"] == []
    assert questions[:3] == ["Page 2?", "Page 1?", "Page 0?"]
    assert len(set(questions)) == len(questions)
    refused = learning.client.get("/v1/learned", params={"limit": 0})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "limit")


def test_damaged_records_are_reported_without_their_contents(learning: Running, root: Path) -> None:
    journal = root / ".improve" / "improve-20260101-000000" / "journal.json"
    whole = journal.read_text()
    journal.write_text("{")
    refused = learning.client.get("/v1/learned")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "records_unreadable")
    assert str(root) not in refused.text
    assert "cannot be read" in learning.log.read_text()
    journal.write_text(whole)
