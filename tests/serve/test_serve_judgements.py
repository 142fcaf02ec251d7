"""What readers judged becomes training data: settled, screened, split by conversation, of those alone who agreed."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.feedback import FeedbackSource
from resonance.errors import ResonanceError
from serve import feedback
from serve.api.schemas.feedback import ExampleTurn
from serve.judgements.judgement import Judgement, Kind, Origin, split_of
from serve.judgements.screening import Screening
from serve.judgements.settle import OUTVOTED, REPEATED, SUPERSEDED, UNSETTLED, settle
from serve.storage.consent import set_consent
from serve.storage.judged import judged as judged_rows
from serve.storage.judged import still_judged
from serve.storage.store import NewMessage, Store, new_message_id
from serve.storage.tables import VoteRow
from serve.storage.votes import add_vote
from tests.serve.stores import on_store

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def judged(
    kind: Kind,
    origin: Origin,
    answer: str,
    *,
    owner: str = "ada",
    question: str = "The opposite of hot?",
    minutes: int = 0,
    **more: object,
) -> Judgement:
    turns = [ExampleTurn(role="user", content=question), ExampleTurn(role="assistant", content=answer)]
    when = NOON + timedelta(minutes=minutes)
    return Judgement(kind, origin, owner, f"msg-{owner}-{minutes}", f"c-{owner}", when, "demo", turns, **more)  # pyright: ignore[reportArgumentType]


def corrected(answer: str, **more: object) -> Judgement:
    return judged("example", "correction", answer, **more)  # pyright: ignore[reportArgumentType]


def test_the_newest_correction_of_one_person_counts() -> None:
    settled = settle([corrected("warm"), corrected("cold", minutes=1)])
    assert [one.answer for one in settled.kept] == ["cold"]
    assert settled.left_out == {SUPERSEDED: 1}


def test_of_contradictory_corrections_the_majorities_counts_and_without_one_none() -> None:
    two = [corrected("cold", owner="ada"), corrected("Cold ", owner="ben")]
    settled = settle([*two, corrected("warm", owner="eve")])
    assert ([one.answer for one in settled.kept], settled.left_out) == (["cold"], {REPEATED: 1, OUTVOTED: 1})
    settled = settle([corrected("cold", owner="ada"), corrected("warm", owner="eve")])
    assert (settled.kept, settled.left_out) == ([], {UNSETTLED: 2})


def test_an_answer_with_a_thumb_up_and_one_down_is_not_learned() -> None:
    up = judged("vote", "approval", "cold", owner="ada", good=True)
    down = judged("vote", "rejection", "cold", owner="eve", good=False)
    example = judged("example", "approval", "cold", owner="ada")
    assert settle([up, down, example]).left_out[UNSETTLED] == 2
    second = judged("vote", "rejection", "cold", owner="ben", good=False)
    settled = settle([up, down, second, example])
    assert [(one.kind, one.good) for one in settled.kept] == [("vote", False)]


def test_pairs_in_opposite_order_cancel_out() -> None:
    one = judged("pair", "compare", "cold", owner="ada", rejected="warm")
    other = judged("pair", "compare", "warm", owner="eve", rejected="cold")
    assert settle([one, other]).kept == []
    assert settle([one, judged("pair", "compare", "icy", owner="eve", rejected="cold")]).left_out == {}


def test_different_good_answers_to_one_question_are_no_contradiction() -> None:
    settled = settle([judged("example", "approval", "Tell one."), judged("example", "approval", "Tell two.")])
    assert len(settled.kept) == 2


def test_a_conversation_is_always_in_the_same_split_and_a_fifth_is_held_out() -> None:
    splits = [split_of(corrected("cold", owner=f"o{number}"), 0.2, 0.05) for number in range(2000)]
    assert 320 < splits.count("test") < 480
    assert 60 < splits.count("validation") < 140
    assert split_of(corrected("warm", owner="o7", minutes=9), 0.2, 0.05) == splits[7]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Write to ada.holm@example.org about it", "EMAIL_ADDRESS"),
        ("My card is 4111 1111 1111 1111", "CREDIT_CARD"),
        ("Call me at +49 30 901820", "PHONE_NUMBER"),
        ("Pay to DE89370400440532013000", "IBAN_CODE"),
        ("aws AKIAIOSFODNN7EXAMPLE", "AWS Access Key"),
        ("my password is hunter2", "SECRET"),
        ("use sk-proj-abcdefghijklmnopqrstuvwxyz0123456789", "SECRET"),
    ],
)
def test_secrets_and_personal_data_are_found(text: str, found: str) -> None:
    assert found in Screening().findings(["What is this?", text])


def test_ordinary_sentences_hold_no_secret() -> None:
    ordinary = [
        "What is 12 plus 30?", "In 1871 it had 91 steps.", "Sort 19 4 77 23 1 8, please.",
        "The secret of success is work.", "A token of my love", "The password was never found.",
    ]  # fmt: skip
    assert Screening().findings(ordinary) == []


# The command, on a real database.


async def talk(
    store: Store, owner: str, conversation: str, question: str, answer: str, rating: int, correction: str | None = None
) -> str:
    asked = NewMessage("user", question, new_message_id())
    said = NewMessage("assistant", answer, new_message_id(), model="demo", finish_reason="stop")
    await store.append(owner, conversation, [asked, said], None)
    assert await store.rate(owner, conversation, said.id, rating, None, correction)
    return said.id


def turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


@pytest.fixture
def filled(url: str, owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with judgements of an owner who agreed, and of one who did not."""
    monkeypatch.setenv("RESONANCE_HOME", str(tmp_path))
    monkeypatch.delenv("RESONANCE_API_KEYS", raising=False)

    async def fill(store: Store) -> None:
        for number in range(40):
            await talk(store, owner, f"c{number}", f"What is {number} plus 1?", "5", -1, str(number + 1))
        await talk(store, owner, "good", "The capital of France?", "Paris", 1)
        await talk(store, owner, "secret", "My password is hunter2, is it good?", "Yes", -1, "No")
        await talk(store, f"{owner}-silent", "c", "Who am I?", "Nobody", 1)
        row = VoteRow(owner=owner, id="vote-1", created_at=NOON, choice="b", prompt=[turn("user", "Warm or cold?")],
                      a={"model": "demo", "content": "Warm"}, b={"model": "new", "content": "Cold"})  # fmt: skip
        await add_vote(store, row)
        await set_consent(store, owner, given=True)

    on_store(url, fill)
    return url


def test_answers_and_votes_are_listed_together_newest_first_and_page_by_page(filled: str, owner: str) -> None:
    async def read(store: Store) -> None:
        whole, more = await judged_rows(store, owner, limit=100, after=None)
        assert (len(whole), more) == (43, False)  # 42 answers, and a vote
        assert [one.at for one in whole] == sorted((one.at for one in whole), reverse=True)
        questions = {one.id: one.question for one in whole}
        assert questions["vote-1"] == "Warm or cold?"
        assert {"The capital of France?", "What is 7 plus 1?"} < set(questions.values())
        pages: list[str] = []
        more = True
        while more:
            page, more = await judged_rows(store, owner, limit=10, after=pages[-1] if pages else None)
            pages += [one.id for one in page]
        assert pages == [one.id for one in whole]
        assert await judged_rows(store, owner, limit=10, after="unknown") == ([], False)
        withdrawn = next(one.id for one in whole if one.question == "The capital of France?")
        assert await store.rate(owner, "good", withdrawn, None, None, None)
        stored = await still_judged(store, owner, [*questions, "unknown"])
        assert stored == {one.id: one.at for one in whole if one.id != withdrawn}
        assert await still_judged(store, f"{owner}-silent", questions) == {}

    on_store(filled, read)


def command(url: str, *words: str) -> None:
    feedback.main([f"store.url={url}", *words])


def test_an_export_is_read_back_by_training_in_the_splits_it_names(
    filled: str, owner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "feedback.jsonl"
    command(filled, "action=export", f"out={out}", f"owner={owner}")
    printed = capsys.readouterr().out
    assert re.search(r"left out: \d \(holds a secret or personal data: SECRET\)", printed)
    assert out.stat().st_mode & 0o777 == 0o600
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {"kind", "split", "origin", "owner", "conversation", "id", "at", "answered_by"} <= set(rows[0])
    assert {row["owner"] for row in rows} == {owner}
    assert "hunter2" not in out.read_text()
    examples = FeedbackSource(str(out)).splits()
    counts = [len(split) for split in (examples.train, examples.validation, examples.test)]
    assert sum(counts) == 41
    assert 2 <= counts[2] <= 18
    assert {example.answer for example in (*examples.train, *examples.validation, *examples.test)} > {
        "1",
        "40",
        "Paris",
    }
    pairs = FeedbackSource(str(out), run_objective="train.objectives.DPO").splits()
    rejected = [example.rejected for split in (pairs.train, pairs.validation, pairs.test) for example in split]
    assert sorted(set(rejected)) == ["5", "Warm"]
    assert len(rejected) == 40 + 1 - 1  # one correction says what the model had said
    votes = FeedbackSource(str(out), learn="votes").splits()
    assert any(example.desirable is False for example in votes.train)


def test_nothing_is_exported_of_those_who_have_not_agreed(
    filled: str, owner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "feedback.jsonl"
    command(filled, "action=export", f"out={out}", f"owner={owner}-silent", "screen=false")
    assert out.read_text() == ""
    assert "left out: 2 (their owners have not agreed to training)" in capsys.readouterr().out
    command(filled, "action=export", f"out={out}", f"owner={owner}-silent", "training_consent=given")
    assert "Who am I?" in out.read_text()
    command(filled, "action=export", f"out={out}", f"owner={owner}", "training_consent=never")
    assert out.read_text() == ""


def test_what_there_is_is_shown_by_owner_and_checkpoint(
    filled: str, owner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command(filled, "json=true", f"owner={owner}")
    rows = {row["answered_by"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["demo"]["approval"], rows["demo"]["correction"], rows["demo"]["compare"]) == (2, 40, 1)
    assert rows["demo"]["agreed"] is True
    command(filled, f"owner={owner}", "since=2026-11-02", "checkpoint=demo")
    assert "corrections" in capsys.readouterr().out


def test_a_forgotten_conversation_and_deleted_judgements_are_in_no_later_export(
    filled: str, owner: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "feedback.jsonl"
    command(filled, "action=forget", "conversation=good", f"owner={owner}")
    command(filled, "action=export", f"out={out}", f"owner={owner}", "screen=false")
    assert "France" not in out.read_text()
    command(filled, "action=delete", f"owner={owner}")
    assert "41 answers and 1 votes" in capsys.readouterr().out
    command(filled, "action=export", f"out={out}", f"owner={owner}")
    assert out.read_text() == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["action=exprot"], "did you mean 'export'"),
        (["action=export"], "out=FILE"),
        (["action=export", "out=/nowhere/f.jsonl"], "/nowhere/f.jsonl cannot be written"),
        (["owner=nobody-knows"], "Nothing is stored of 'nobody-knows'"),
        (["action=forget"], "conversation=ID"),
        (["action=forget", "conversation=none"], "There is no conversation 'none'"),
        (["action=delete"], "owner=NAME"),
        (["since=yesterday"], "since must be a day or a time"),
        (["test=1.5"], "test must be a share"),
        (["training_consent=maybe"], "ask, given or never"),
        (["store.url=sqlite:////nowhere/c.sqlite"], "There is no database at /nowhere/c.sqlite"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(filled: str, words: list[str], sentence: str) -> None:
    with pytest.raises(ResonanceError, match=sentence):
        command(filled, *words)


def test_a_file_that_is_no_export_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"instruction": "a", "output": "b"}\n')
    with pytest.raises(ResonanceError, match="was not written by `resonance feedback export`"):
        FeedbackSource(str(other)).splits()
    with pytest.raises(ResonanceError, match="There is no file"):
        FeedbackSource(str(tmp_path / "none.jsonl")).splits()
    with pytest.raises(ResonanceError, match=r"data\.learn must be"):
        FeedbackSource(str(other), learn="all")
