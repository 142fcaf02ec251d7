"""Blind votes on a shadow's answers become evidence on the candidate, for the gate of `resonance improve`."""

import io
import json
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from resonance.aliases import read_aliases
from resonance.checkpoint import Checkpoint
from resonance.cli.improve import main as improve
from resonance.cli.promote import promote_run
from resonance.errors import ResonanceError
from resonance.hydra_config import compose
from resonance.improve.evidence import EvidenceError
from resonance.improve.journal import FOLDER, Attempt, attempts
from resonance.improve.run import improve as run_improve
from resonance.improve.settings import settings_of
from serve.feedback import main as feedback
from serve.generation.shadow import voted_answer
from serve.judgements.evidence import Evidence, Votes, Weights, evidence_of
from serve.models.served_model import ServedModel
from serve.storage.consent import set_consent
from serve.storage.shadow_pairs import add_pair, vote_on
from serve.storage.store import NewMessage, Store, new_message_id
from serve.storage.tables import ShadowPairRow, VoteRow
from serve.storage.votes import add_vote
from tests.serve.stores import on_store

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
PARAMS = {"max_new_tokens": 9, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
          "seed": None}  # fmt: skip
CANDIDATE = "improve-20261101-120000"
PASSED = {"name": "better on held-out feedback", "passed": True, "sentence": "25.0% before and 60.4% after."}
WON, LOST, TIE = 1, -1, 0


def found(won: int, lost: int, ties: int = 0, **more: int) -> Evidence:
    return evidence_of(Votes(won, lost, ties, owners=3), Weights("new", "1"), Weights("old", "2"), **more)


def test_a_clear_preference_for_the_old_one_speaks_against_the_candidate_and_nothing_else_does() -> None:
    worse = found(9, 31, 5)
    assert not worse.passed
    assert worse.sentence == (
        "45 blind votes by 3 people, 5 of them ties: new won 9 and lost 31 against old, a share of 22% (95% interval "
        "11% to 38%), exact binomial test p = 0.00068: people prefer old."
    )
    assert found(15, 25).passed
    assert "p = 0.154: no clear preference." in found(15, 25).sentence
    assert "p = 0.00068: people prefer new." in found(31, 9).sentence
    assert (found(0, 6, min_votes=6).passed, found(1, 5, min_votes=6).passed) == (False, True)


def test_too_few_votes_count_neither_way_however_many_are_ties() -> None:
    for few in (found(0, 9), found(9, 0), found(0, 0, 50)):
        assert few.passed is None
        assert "too few to count as evidence either way; at least 10 decided votes are needed" in few.sentence


# The commands, on a real database and real checkpoints.


@pytest.fixture(scope="module")
def waiting(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with `first` in production, and a candidate that waits since promote=false."""
    root = tmp_path_factory.mktemp("evidence") / "runs"
    for name, like in (("first", "tiny"), (CANDIDATE, "other")):
        shutil.copytree(runs / like, root / name)
    move = promote_run(root, "production", "first", verify=False)
    stages: dict[str, dict[str, Any]] = {
        "gather": {"new": 9, "held_out": 9, "until": NOON.isoformat(), "examples": 9, "pairs": 0},
        "check": {"sentence": "Enough.", "attempt": 1, "checks": []},
        "train": {"run": CANDIDATE, "objectives": ["sft"], "steps": 7, "tokens": 70},
        "evaluate": {},
        "gate": {"own": 1, "checks": [PASSED]},
    }
    for stage in stages.values():
        stage["seconds"] = 1.0
    folder = root / FOLDER / CANDIDATE
    folder.mkdir(parents=True)
    production = {"run": move.run, "crc32": move.crc32}
    values = {"alias": "production", "started_at": "now", "production": production, "stages": stages, "outcome": None}
    Attempt(folder, values).end("ready", "It passes the gate.")
    return root


@pytest.fixture(scope="module")
def models(waiting: Path) -> dict[str, ServedModel]:
    return {name: ServedModel.open(name, str(waiting / name), None) for name in (CANDIDATE, "first")}


@pytest.fixture
def root(waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path))
    monkeypatch.delenv("RESONANCE_API_KEYS", raising=False)
    return Path(shutil.copytree(waiting, tmp_path / "runs", copy_function=os.link))


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database: votes of all owners count. A test that is parametrised has it in PostgreSQL too."""
    if getattr(request, "param", "sqlite") == "postgresql":
        return request.getfixturevalue("empty_postgres")
    return f"sqlite:///{tmp_path / 'conversations.sqlite'}"


class Ballot:
    """Writes pairs as a shadow does, and votes on them as their owners do."""

    def __init__(self, store: Store, models: dict[str, ServedModel]) -> None:
        self._store, self._models, self._number, self._id = store, models, 0, new_message_id()

    async def cast(self, owner: str, *choices: int, text: str | None = None) -> None:
        """A pair and a vote for each choice; with `text` it is the same pair each time."""
        for choice in choices:
            self._number += 1
            new = voted_answer(self._models[CANDIDATE], PARAMS, f"new {text or self._number}")
            old = voted_answer(self._models["first"], PARAMS, f"old {text or self._number}")
            a, b = (new, old) if self._number % 2 else (old, new)
            conversation, pair, vote = (f"{kind}-{self._id}-{self._number}" for kind in ("c", "p", "v"))
            await self._store.append(owner, conversation, [NewMessage("user", "Why?", new_message_id())], None)
            at = NOON + timedelta(minutes=self._number)
            prompt = [{"role": "user", "content": "Why?"}]
            row = ShadowPairRow(
                owner=owner, id=pair, conversation_id=conversation, created_at=at, prompt=prompt, a=a, b=b
            )
            assert await add_pair(self._store, row, asks=True)
            word = "tie" if choice == TIE else "a" if (choice == WON) == (a is new) else "b"
            assert await vote_on(self._store, owner, pair, VoteRow(owner=owner, id=vote, created_at=at, choice=word))


def evidence(url: str, root: Path, *words: str) -> dict[str, Any]:
    out = root / "canary.json"
    overrides = ["action=evidence", f"checkpoint={CANDIDATE}", f"out={out}", f"store.url={url}", f"root={root}"]
    feedback([*overrides, *words])
    (entry,) = json.loads(out.read_text())
    return entry


def judge(root: Path, *words: str) -> int:
    """Judge the waiting candidate again; returns the exit code."""
    overrides = [f"root={root}", "store.url=sqlite:////nowhere/c.sqlite", "verify=false", *words]
    try:
        improve([*overrides, f"gate.evidence=[{root / 'canary.json'}]"])
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code
    return 0


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_votes_count_of_those_who_agree_on_pairs_of_these_two_once_each(
    root: Path, models: dict[str, ServedModel], url: str, capsys: pytest.CaptureFixture[str]
) -> None:

    async def fill(store: Store) -> None:
        for owner in ("ada", "ben", "eve"):
            await set_consent(store, owner, given=True)
        ballot = Ballot(store, models)
        await ballot.cast("ada", WON, WON, LOST, TIE)
        await ballot.cast("ben", LOST, LOST, WON, text="again")  # the newest one counts
        await ballot.cast("eve", LOST, LOST)
        renamed = {**models, CANDIDATE: replace(models[CANDIDATE], checkpoint="renamed")}  # the same weights
        await Ballot(store, renamed).cast("ben", WON)
        await set_consent(store, "eve", given=False)  # withdrawn
        exchanged = {CANDIDATE: models["first"], "first": models[CANDIDATE]}
        await Ballot(store, exchanged).cast("ada", LOST)
        compared = {"model": CANDIDATE, "content": "x"}, {"model": "first", "content": "y"}
        await add_vote(store, VoteRow(owner="ada", id="v", created_at=NOON, prompt=[], a=compared[0], b=compared[1],
                                      choice="a"))  # fmt: skip
        trained_again = {
            name: replace(model, crc32="1") if name == CANDIDATE else model for name, model in models.items()
        }
        await Ballot(store, trained_again).cast("ada", LOST, LOST, LOST)

    on_store(url, fill)
    capsys.readouterr()
    entry = evidence(url, root)
    votes = entry["votes"]
    assert (votes["won"], votes["lost"], votes["ties"], votes["owners"]) == (5, 1, 1, 2)
    assert votes["left_out"] == {
        "on answers of other checkpoints": 3,
        "on answers of a comparison, not of a shadow": 1,
        "on a question and answers that their owner voted on again": 2,
        "their owners have not agreed to training": 2,
    }
    assert (entry["passed"], entry["candidate"]["run"], entry["against"]["run"]) == (None, CANDIDATE, "first")
    printed = capsys.readouterr().out
    assert printed.startswith("7 blind votes by 2 people, 1 of them ties")
    assert "left out: 3 (on answers of other checkpoints)" in printed
    # The gate says so, and does not count it either way.
    assert judge(root, "promote=false") == 0
    (attempt,) = attempts(root, "production")
    gate = attempt.figures("gate")
    assert gate is not None
    assert [(check["passed"], check.get("counted", True)) for check in gate["checks"]] == [(True, True), (True, False)]
    assert "too few to count" in gate["checks"][1]["sentence"]
    assert "not counted</span> <strong>blind votes" in (attempt.folder / "improve.html").read_text()
    assert judge(root) == 0  # it still waited
    move = read_aliases(root)["production"].current
    assert move.run == CANDIDATE
    assert "blind votes" not in move.evidence


def test_a_candidate_that_people_clearly_prefer_less_is_not_promoted(
    root: Path, models: dict[str, ServedModel], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fill(store: Store) -> None:
        await set_consent(store, "ada", given=True)
        await Ballot(store, models).cast("ada", *[LOST] * 10, WON)

    on_store(url, fill)
    assert evidence(url, root)["passed"] is False
    capsys.readouterr()
    assert judge(root) == 4
    printed = capsys.readouterr().out
    assert f"Not blind votes: 11 blind votes by 1 person, 0 of them ties: {CANDIDATE} won 1 and lost 10" in printed
    assert "p = 0.0117: people prefer first" in printed
    assert read_aliases(root)["production"].current.run == "first"
    with pytest.raises(ResonanceError, match="which is refused and does not wait for production's gate"):
        judge(root)


def test_votes_without_a_clear_preference_are_in_the_promotions_log(
    root: Path, models: dict[str, ServedModel], url: str
) -> None:
    async def fill(store: Store) -> None:
        await set_consent(store, "ada", given=True)
        await Ballot(store, models).cast("ada", *[LOST] * 4, *[WON] * 8, TIE)

    on_store(url, fill)
    assert evidence(url, root)["passed"] is True
    assert judge(root) == 0
    move = read_aliases(root)["production"].current
    assert (move.run, move.before) == (CANDIDATE, "first")
    assert "won 8 and lost 4 against first, a share of 67%" in move.evidence["blind votes"]
    assert move.evidence["better on held-out feedback"] == PASSED["sentence"]


def test_evidence_never_takes_the_place_of_the_gates_own_checks(root: Path) -> None:
    (attempt,) = attempts(root, "production")
    attempt.values["stages"]["gate"]["checks"] = [PASSED | {"passed": False}]
    attempt.write()
    weights = {name: Checkpoint.open(root / name).crc32 for name in (CANDIDATE, "first")}
    pair = {"candidate": {"run": CANDIDATE, "crc32": weights[CANDIDATE]},
            "against": {"run": "first", "crc32": weights["first"]}}  # fmt: skip
    (root / "canary.json").write_text(json.dumps([PASSED | pair]))
    assert judge(root) == 4


def test_evidence_on_other_weights_is_refused_before_anything_begins(root: Path) -> None:
    weights = {key: {"run": name, "crc32": Checkpoint.open(root / name).crc32}
               for key, name in (("candidate", CANDIDATE), ("against", "first"))}  # fmt: skip
    path = root / "canary.json"
    settings = settings_of(compose("improve", [f"root={root}", f"gate.evidence=[{root / 'aliases.json'}]"]))
    settings = replace(settings, gate=replace(settings.gate, evidence=(path,)))

    def refusal(change: dict[str, Any], *, fresh: bool = False) -> str:
        path.write_text(json.dumps([PASSED | weights | change]))
        with pytest.raises(EvidenceError) as caught:
            run_improve(replace(settings, fresh=fresh), Console(file=io.StringIO()))
        assert caught.value.exit_code == 2
        return str(caught.value)

    assert "which is no candidate and does not wait" in refusal({"candidate": {"run": "first", "crc32": "1"}})
    assert "is evidence on other weights than those" in refusal({"candidate": {"run": CANDIDATE, "crc32": "1"}})
    assert "production is first with other weights" in refusal({"against": {"run": "old", "crc32": "1"}})
    assert "fresh=true begins anew" in refusal({}, fresh=True)
    (attempt,) = attempts(root, "production")
    assert attempt.outcome is not None
    assert attempt.outcome["outcome"] == "ready"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["checkpoint=null"], "evidence checkpoint=RUN out=FILE"),
        (["out=/nowhere/canary.json"], "/nowhere/canary.json cannot be written"),
        (["owner=ada"], "owner cannot choose among votes"),
        (["min_votes=5"], "min_votes must be a whole number from 6 on, not 5"),
        (["against=nobody"], "There is no checkpoint 'nobody'"),
        (["checkpoint=first"], "first has the weights of first"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(root: Path, url: str, words: list[str], sentence: str) -> None:
    with pytest.raises(ResonanceError, match=sentence) as caught:
        evidence(url, root, *words)
    assert caught.value.exit_code == 2
