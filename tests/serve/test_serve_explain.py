"""Which training examples an answer came from: asked of a server, refused by it, and left by its client."""

import http.client
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from resonance import Checkpoint, Message
from resonance.influence.answer import answer_gradient
from resonance.influence.index import FOLDER, VERSION, IndexWriter, InfluenceIndex, Record
from serve.api.explain import may_show
from serve.owners import EnvironmentKey

from .conftest import Running, Start

MESSAGES = [{"role": "user", "content": "Cold or hot?"}, {"role": "assistant", "content": "Hot."}]
SIDE = 8


@pytest.fixture(scope="module")
def root(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs, of which `tiny` has an index: three examples, a judgement of `ann` and one of somebody else."""
    root = Path(shutil.copytree(runs, tmp_path_factory.mktemp("explained") / "runs"))
    tiny = Checkpoint.open(root / "tiny")
    plain = [
        {"kind": "example", "prompt": f"question {n}", "answer": f"answer {n}", "provenance": None} for n in range(3)
    ]
    judged = [
        {"kind": "correction", "prompt": f"asked by {name}", "answer": "better", "rejected": "worse",
         "provenance": {"owner": name, "owner_id": owner}}
        for name, owner in (("ann", EnvironmentKey("secret", "ann").owner_id([])), ("local", "local"))
    ]  # fmt: skip
    examples = [*plain, *judged]
    record = Record(VERSION, tiny.crc32, "data", "the last block", SIDE, 9, len(examples))
    writer = IndexWriter(tiny.folder / FOLDER, record, examples)
    writer.add(range(5), np.random.default_rng(0).normal(size=(5, SIDE**2)).astype(np.float32))
    writer.save()
    return root


@pytest.fixture(scope="module")
def explained(launch: Start, root: Path) -> Running:
    return launch("checkpoint=[tiny,other]", f"root={root}", "explain=always", RESONANCE_API_KEYS="ann:secret")


@pytest.fixture(autouse=True)
def key(explained: Running) -> None:
    explained.client.headers["Authorization"] = "Bearer secret"


def test_examples_are_ranked_as_the_library_ranks_them_and_others_judgements_have_no_text(
    explained: Running, root: Path
) -> None:
    found = explained.client.post("/v1/explain", json={"messages": MESSAGES}).json()
    tiny = Checkpoint.open(root / "tiny")
    messages = [Message("user", "Cold or hot?"), Message("assistant", "Hot.")]
    gradient = answer_gradient(tiny, messages, SIDE)
    index = InfluenceIndex.open(tiny)
    ranked = [(one.score, index.example(one.position)) for one in index.rank(gradient, 10)]
    assert [one["score"] for one in found["data"]] == pytest.approx([score for score, _ in ranked], abs=1e-3)
    assert [one["kind"] for one in found["data"]] == [example["kind"] for _, example in ranked]
    assert (found["checkpoint"], found["training_examples"], found["examples_compared"]) == ("tiny", 9, 5)
    texts = {(one["kind"], one["prompt"], one["yours"]) for one in found["data"]}
    assert {
        ("example", "question 1", False),
        ("correction", "asked by ann", True),
        ("correction", None, False),
    } <= texts
    assert "asked by local" not in json.dumps(found)


def test_a_stored_answer_is_explained_and_what_has_no_answer_or_no_index_is_refused_in_a_sentence(
    explained: Running,
) -> None:
    chat = {"session_id": "one", "messages": MESSAGES[:1], "max_tokens": 3, "logit_bias": {"50256": -100}}
    post = explained.client.post
    assert post("/v1/chat/completions", json={**chat, "model": "tiny"}).status_code == 200
    assert len(post("/v1/explain", json={"conversation": "one", "count": 2}).json()["data"]) == 2
    for body, status, sentence in (
        ({"conversation": "none"}, 404, "There is no such conversation."),
        ({"conversation": "one", "message": "none"}, 404, "There is no such answer."),
        ({"messages": MESSAGES, "model": "other"}, 404, "other has no index of its training examples; `resonance exp"),
        ({"messages": [MESSAGES[0], {"role": "assistant", "content": ""}]}, 400, "The answer is empty"),
        ({"messages": MESSAGES[::-1]}, 400, "messages must end with the assistant's answer"),
        ({"conversation": "one", "messages": MESSAGES}, 400, "needs either conversation or messages"),
    ):
        answer = post("/v1/explain", json=body)
        assert answer.status_code == status, answer.text
        assert sentence in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("explain", "is_open", "shown"),
    [("auto", True, True), ("auto", False, False), ("never", True, False), ("always", False, True)],
)
def test_training_examples_are_shown_where_no_keys_are_needed_or_the_settings_say_so(
    explain: str, is_open: bool, shown: bool
) -> None:
    assert may_show(explain, is_open=is_open) == shown


def test_one_answer_is_explained_at_a_time_and_its_process_ends_when_the_client_goes(explained: Running) -> None:
    def computing() -> bool:
        files = [Path(f"/proc/{pid}/cmdline") for pid in explained.children()]
        return any(b"resonance.influence" in file.read_bytes() for file in files if file.exists())

    connection = http.client.HTTPConnection(explained.base.removeprefix("http://"), timeout=200)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer secret"}
    connection.request("POST", "/v1/explain", body=json.dumps({"messages": MESSAGES}), headers=headers)
    assert explained.until(computing)
    second = explained.client.post("/v1/explain", json={"messages": MESSAGES})
    assert second.status_code == 429 and second.headers["Retry-After"] == "2"
    connection.close()
    assert explained.until(lambda: not computing(), 10)
