"""Pairs and votes: the formats that are read, and the sequences and batches made of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from data import DataError
from data.example import Example, UnusableRows
from data.formats import read_rows
from data.preference_module import PreferenceDataModule
from data.preferences import Kind, fit_answers, tokenize_preferences
from data.sources import FileSource
from data.tokenize import IGNORE, tokenize
from resonance.chat_template import ChatTemplate, Message

TEMPLATE = ChatTemplate.named("chatml")
USER = {"role": "user", "content": "Why?"}
GOOD, BAD = {"role": "assistant", "content": "Because."}, {"role": "assistant", "content": "No."}
EXPORT = {  # a line of the server's /v1/preferences.jsonl
    "origin": "vote",
    "id": "vote_1",
    "created_at": "2026-01-01T00:00:00Z",
    "prompt": [{**USER, "context": None}],
    "chosen": [{**GOOD, "context": None}],
    "rejected": [{**BAD, "context": None}],
    "messages": [{**USER, "context": None}, {**GOOD, "context": None}],
    "chosen_by": None,
    "rejected_by": {"model": "demo", "checkpoint": None, "settings": None},
}


def read(*rows: Mapping[str, object]) -> tuple[list[Example], UnusableRows]:
    examples: list[Example] = []
    _, unusable = read_rows(rows, list(rows[0]), "the data", examples.append)
    return examples, unusable


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "Why?", "chosen": [USER, GOOD], "rejected": [USER, BAD], "messages": [USER, GOOD]},
        EXPORT,
    ],
)
def test_pairs_are_read_in_trl_s_formats_and_the_server_s(row: Mapping[str, object]) -> None:
    [example], unusable = read(row)
    assert not unusable
    assert example.messages == (Message("user", "Why?"), Message("assistant", "Because."))
    assert (example.rejected, example.desirable) == ("No.", None)


@pytest.mark.parametrize(
    ("label", "desirable"), [(True, True), (False, False), ("true", True), ("False", False), (1, None), (None, None)]
)
def test_votes_are_read_by_a_label_that_is_true_or_false(label: object, desirable: bool | None) -> None:
    for prompt, completion in (("Why?", "Because."), ([USER], [GOOD])):
        [example], _ = read({"prompt": prompt, "completion": completion, "label": label})
        assert example.messages == (Message("user", "Why?"), Message("assistant", "Because."))
        assert example.desirable is desirable


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": [USER, GOOD], "rejected": [{**USER, "content": "Who?"}, BAD]}, "differ before their last turn"),
        ({"chosen": "Because.", "rejected": "No."}, "`chosen` is an answer without a `prompt`"),
        ({"chosen": [USER], "rejected": [USER]}, "`chosen` does not end with an answer"),
        ({"prompt": "Why?", "completion": [USER, GOOD]}, "`completion` has several turns"),
    ],
)
def test_rows_that_are_no_pair_are_skipped_with_the_reason(row: Mapping[str, object], reason: str) -> None:
    with pytest.raises(DataError) as refused:
        read(row)
    assert reason in str(refused.value)


def test_fine_tuning_learns_chosen_answers_and_leaves_out_those_with_a_vote_against_them() -> None:
    examples, _ = read(
        {"prompt": "Why?", "completion": "Because.", "label": True},
        {"prompt": "Why not?", "completion": "No.", "label": False},
        {"prompt": "Who?", "chosen": "You.", "rejected": "Me."},
    )
    data = tokenize(examples, TEMPLATE, 64)
    assert data.indices.tolist() == [0, 2]
    assert dict(data.report.skipped) == {"answer with a vote against it": 1}


def answers_of(rows: Sequence[Mapping[str, object]], kind: Kind, context_length: int = 64) -> list[tuple[str, str]]:
    """The text of each sequence, and that of its labels."""
    examples, _ = read(*rows)
    data = tokenize_preferences(examples, kind, TEMPLATE, context_length, seed=0)
    found = []
    for start, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
        labels = [int(label) for label in data.labels[start:end] if label != IGNORE]
        ids = [int(i) for i in data.input_ids[start:end]]
        assert labels[:-1] == ids[len(ids) - len(labels) + 1 :]  # each label is the next input
        found.append((TEMPLATE.tokenizer.decode(ids), TEMPLATE.tokenizer.decode(labels)))
    return found


def test_only_the_last_answer_of_a_conversation_is_compared() -> None:
    prompt = [USER, GOOD, {"role": "user", "content": "Sure?"}]
    chosen, rejected = answers_of([{"prompt": prompt, "chosen": "Yes.", "rejected": "Maybe so."}], "pairs")
    assert (chosen[1], rejected[1]) == ("Yes.<|im_end|>", "Maybe so.<|im_end|>")
    assert chosen[0].count("Because.") == 1
    assert chosen[0].removesuffix("Yes.") == rejected[0].removesuffix("Maybe so.")


def test_a_pair_is_two_votes_each_beside_an_answer_to_another_prompt() -> None:
    rows = [{"prompt": f"{word}?", "chosen": f"{word} yes", "rejected": f"{word} no"} for word in ("one", "two")]
    found = answers_of(rows, "votes")
    assert [label for _, label in found[::2]] == [
        f"{answer}<|im_end|>" for answer in ("one yes", "one no", "two yes", "two no")
    ]
    for (text, label), (other_text, other_label) in zip(found[::2], found[1::2], strict=True):
        assert text.split("assistant")[0] == other_text.split("assistant")[0]  # the same prompt
        assert label.split()[0] != other_label.split()[0]


def test_a_long_prompt_loses_its_oldest_turns_for_both_answers() -> None:
    prompt = [Message("user", "old " * 20), Message("assistant", "Well."), Message("user", "New?")]
    fitted = fit_answers(prompt, ["Yes.", "No. " * 5], TEMPLATE, 40)
    assert fitted is not None and fitted.shortened and not fitted.cut
    starts = [TEMPLATE.tokenizer.decode(input_ids).split("assistant")[0] for input_ids, _ in fitted.sequences]
    assert starts[0] == starts[1] and "old" not in starts[0]
    assert fit_answers(prompt[2:], ["Yes.", "No."], TEMPLATE, 5) is None


def test_pairs_that_differ_in_the_rejected_answer_or_the_vote_alone_are_no_repetitions(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "Q?", "chosen": "Yes.", "rejected": text} for text in ("No.", "Never.", "No.")
    ]
    votes: list[dict[str, object]] = [
        {"prompt": "Q?", "completion": "Yes.", "label": label} for label in (True, False, True)
    ]
    path = tmp_path / "judged.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [*rows, *votes]))
    source = FileSource(str(path), train=1, validation=0, test=0, shuffle=False, deduplicate="exact")
    assert [(example.rejected, example.desirable) for example in source.splits().train] == [
        ("No.", None),
        ("Never.", None),
        (None, True),
        (None, False),
    ]


def test_leakage_is_refused_where_the_data_s_keys_say_so(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text((json.dumps({"prompt": "Q?", "chosen": "Yes.", "rejected": "No."}) + "\n") * 2)
    source = FileSource(str(path), train=0.5, validation=0.5, test=0, leakage="refuse")
    with pytest.raises(DataError, match=r"1 training examples of .* and data.leakage is refuse"):
        PreferenceDataModule(source, TEMPLATE, "pairs", context_length=64, batch_size=2).setup()


def test_votes_are_validated_in_the_same_batches_by_a_run_s_later_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text(
        "".join(
            json.dumps({"prompt": f"{i}?", "completion": "x " * i, "label": i % 2 == 0}) + "\n" for i in range(1, 22)
        )
    )

    def validated(rank: int, world_size: int, rows: int | None) -> list[set[int]]:
        source = FileSource(str(path), train=0.5, validation=0.5, test=0)
        data = PreferenceDataModule(source, TEMPLATE, "votes", context_length=64, batch_size=2, seed=4)
        monkeypatch.setattr(data, "_process", lambda: (rank, world_size))
        if rows is not None:
            data.go_on_with(rows)
        return [set(batch["sequence_ids"].tolist()) for batch in data.val_dataloader()]

    first, second = validated(0, 2, None), validated(1, 2, None)
    assert len(first) > 1
    assert validated(0, 1, 4) == [a | b for a, b in zip(first, second, strict=True)]


def test_equal_answers_and_questions_without_text_are_skipped_and_counted() -> None:
    rows = [
        {"prompt": "Why?", "chosen": "Yes.", "rejected": "Yes."},
        {"prompt": " ", "chosen": "Yes.", "rejected": "No."},
        {"prompt": "Why?", "chosen": " ", "rejected": "No."},
        {"prompt": "Why?", "chosen": "Yes.", "rejected": "No."},
    ]
    examples, _ = read(*rows)
    report = tokenize_preferences(examples, "pairs", TEMPLATE, 64, seed=0).report
    assert report.used == 1
    assert dict(report.skipped) == {
        "chosen and rejected are the same": 1,
        "empty question": 1,
        "empty answer": 1,
    }


@pytest.mark.parametrize("kind", ["pairs", "votes"])
def test_an_epoch_has_each_unit_once_and_goes_on_from_its_state(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "".join(
            json.dumps({"prompt": f"{i}?", "chosen": f"{i} " * (i % 5 + 1), "rejected": "No."}) + "\n"
            for i in range(23)
        )
    )

    def made() -> PreferenceDataModule:
        source = FileSource(str(path), train=0.8, validation=0.2, test=0)
        return PreferenceDataModule(source, TEMPLATE, kind, context_length=64, batch_size=3, seed=4)

    data = made()
    loader = data.train_dataloader()
    batches = iter(loader)
    epoch = [next(batches) for _ in range(data.epoch_length)]
    ids = torch.cat([batch["sequence_ids"] for batch in epoch])
    in_validation = torch.cat([batch["sequence_ids"] for batch in data.val_dataloader()])
    in_reference = torch.cat([batch["sequence_ids"] for batch in data.reference_batches()])
    assert sorted(torch.cat([ids, in_validation]).tolist()) == list(range(data.sequence_count))
    assert sorted(in_reference.tolist()) == list(range(data.sequence_count))
    for batch in epoch:
        first, second = batch["sequence_ids"].chunk(2)
        assert torch.equal(first + 1, second)
        assert torch.equal(*(documents[:, 0] for documents in batch["document_ids"].chunk(2)))
    state, following = loader.state_dict(), next(batches)
    resumed = made().train_dataloader()
    resumed.load_state_dict(state)
    for name, value in next(iter(resumed)).items():
        assert torch.equal(value, following[name])
