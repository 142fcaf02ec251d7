"""A shadow answers a share of the requests as well: unseen, kept for its owners' blind votes, never in the way."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resonance.aliases import AliasError
from resonance.checkpoint import CheckpointError
from resonance.hydra_config import ConfigError
from serve.judgements.collect import collect
from serve.judgements.evidence import Votes, Weights, count_votes, weights_of
from serve.judgements.judgement import Judgement
from serve.settings import read_settings
from serve.storage.store import Store

from .conftest import Running, Start

ASK = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0,
       "logit_bias": {"50256": -100}}  # fmt: skip


@pytest.fixture(scope="module")
def shadowed(launch: Start) -> Iterator[Running]:
    server = launch("checkpoint=tiny", "shadow=other", "share=1.0", "max_batch_size=2", "max_queue=0")
    yield server
    server.stop()


def ask(server: Running, session: str | None = None, **more: object) -> str:
    body = ASK | more | ({} if session is None else {"session_id": session})
    response = server.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def outcome(server: Running, name: str) -> float:
    name = f'resonance_shadow_answers_total{{outcome="{name}"}}'
    return server.metric(name) if name in server.client.get("/metrics").text else 0.0


def pairs(server: Running) -> list[dict[str, Any]]:
    return server.client.get("/v1/shadow-pairs").json()["data"]


def agree(server: Running, given: bool = True) -> None:
    assert server.client.put("/v1/training-consent", json={"given": given}).status_code == 200


def test_nothing_is_kept_without_consent_and_a_pair_with_it_which_is_voted_on_blind(
    shadowed: Running, runs: Path
) -> None:
    assert [model["id"] for model in shadowed.client.get("/v1/models").json()["data"]] == ["tiny"]
    seen = ask(shadowed, "first")
    assert shadowed.until(lambda: outcome(shadowed, "no_consent") == 1)
    assert pairs(shadowed) == []
    agree(shadowed)
    ask(shadowed)  # belongs to no conversation: nothing of it is stored
    assert ask(shadowed, "second") == seen  # the same as before
    assert shadowed.until(lambda: outcome(shadowed, "kept") == 1)
    (pair,) = pairs(shadowed)
    assert (pair["conversation"], pair["prompt"]) == ("second", ASK["messages"])
    assert seen in (pair["a"], pair["b"])
    assert not {"tiny", "other"} & set(str(pair).split("'"))
    assert shadowed.client.post(f"/v1/shadow-pairs/{pair['id']}/vote", json={"choice": "c"}).status_code == 400
    choice = "b" if pair["a"] == seen else "a"
    vote = shadowed.client.post(f"/v1/shadow-pairs/{pair['id']}/vote", json={"choice": choice}).json()
    assert (vote[choice]["model"], vote[choice]["content"]) == ("other", pair[choice])
    assert {vote["a"]["model"], vote["b"]["model"]} == {"tiny", "other"}
    assert shadowed.client.get("/v1/votes").json()["data"] == [vote]
    assert pairs(shadowed) == []
    again = shadowed.client.post(f"/v1/shadow-pairs/{pair['id']}/vote", json={"choice": choice})
    assert again.status_code == 404
    # A vote belongs to its conversation: it is split, and forgotten, with that.
    url = f"sqlite:///{shadowed.log.parent / 'conversations.sqlite'}"
    assert [one.conversation for one in asyncio.run(judgements(url))] == ["second"]
    # It is evidence on the weights that have answered, whatever their names say later.
    candidate, served = weights_of("other", runs), weights_of("tiny", runs)
    counted = asyncio.run(evidence(url, candidate, served))
    assert (counted.won, counted.lost, counted.left_out) == (1, 0, {})
    assert shadowed.client.delete("/v1/conversations/second").status_code == 200
    assert shadowed.client.get("/v1/votes").json()["data"] == []


async def judgements(url: str) -> list[Judgement]:
    store = Store(url)
    try:
        return [one async for one in collect(store, "")]
    finally:
        await store.close()


async def evidence(url: str, candidate: Weights, served: Weights) -> Votes:
    store = Store(url)
    try:
        return await count_votes(store, [""], [""], candidate, served)
    finally:
        await store.close()


def test_a_deleted_conversation_and_withdrawn_consent_take_their_pairs_along(shadowed: Running) -> None:
    agree(shadowed)
    kept = outcome(shadowed, "kept")
    for session in ("left", "gone", "skipped"):
        ask(shadowed, session)
    assert shadowed.until(lambda: outcome(shadowed, "kept") == kept + 3)
    shadowed.client.delete("/v1/conversations/gone")
    skipped = next(pair["id"] for pair in pairs(shadowed) if pair["conversation"] == "skipped")
    assert shadowed.client.delete(f"/v1/shadow-pairs/{skipped}").json()["deleted"]
    assert [pair["conversation"] for pair in pairs(shadowed)] == ["left"]
    agree(shadowed, given=False)
    assert pairs(shadowed) == []


def test_under_load_the_shadow_gives_way_and_no_request_is_refused_for_it(shadowed: Running) -> None:
    agree(shadowed)
    ask(shadowed, "long", max_tokens=2000)
    # The shadow is at its answer now; two requests take both slots of the server, and it has to let go of its own.
    assert shadowed.until(lambda: shadowed.metric("resonance_active_requests") >= 1)
    dropped = outcome(shadowed, "load")
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(shadowed, max_tokens=300))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(answers) == 2
    assert shadowed.until(lambda: outcome(shadowed, "load") == dropped + 1)
    assert shadowed.until(lambda: shadowed.metric("resonance_active_requests") == 0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["shadow=nobody"], "nobody"),
        (["shadow=tiny"], "shadow=tiny is served already"),
        (["shadow=other", "share=1.5"], "share must be a number from 0 to 1, not 1.5"),
        (["shadow=other", "share=a"], "share must be a number, not .a."),
        (["shadow=other", "store.training_consent=never"], "takes consent"),
    ],
)
def test_a_shadow_that_cannot_be_is_refused_in_one_sentence(runs: Path, words: list[str], reason: str) -> None:
    with pytest.raises((ConfigError, CheckpointError, AliasError), match=reason):
        read_settings([f"root={runs}", "checkpoint=tiny", *words], {})
