"""Multiple choice by likelihood: file layouts, questions made of a test split, scores, shots."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config as HfConfig
from transformers import GPT2LMHeadModel

from data.example import Example
from eval import EvalError
from eval.choice_items import questions_of, read_questions
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import Record
from eval.tasks.choice import Choice
from resonance.chat_template import Message
from resonance.checkpoint import Checkpoint


def write(path: Path, *rows: object) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def share(records: Sequence[Record], metric: str) -> float:
    return sum(record.observations[metric][0] for record in records) / len(records)


@pytest.mark.parametrize(
    ("row", "text", "answer"),
    [
        ({"question": "2+2?", "choices": ["3", "4"], "answer": 1}, "2+2?", "4"),
        ({"question": "2+2?", "choices": ["3", "4"], "answer": "B"}, "2+2?", "4"),
        ({"question": "2+2?", "options": ["three", "four"], "answer": "four"}, "2+2?", "four"),
        ({"ctx": "A man", "endings": ["runs", "sings", "eats"], "label": "2"}, "A man", "eats"),
        ({"goal": "Open it", "sol1": "push", "sol2": "pull", "label": 0}, "Open it", "push"),
        (
            {"context": "It is hot.", "question": "Is it?", "choices": ["no", "yes"], "gold": 1},
            "It is hot.\nIs it?",
            "yes",
        ),
        ({"question": "Q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, "Q", "y"),
        (
            {"question": "Q", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "C"}], "answer": "C"},
            "Q",
            "y",
        ),
    ],
)
def test_the_common_layouts_of_multiple_choice_are_read(tmp_path: Path, row: object, text: str, answer: str) -> None:
    (question,) = read_questions(write(tmp_path / "file.jsonl", row))
    assert question.text == text
    assert question.choices[question.answer] == answer


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"choices": ["a", "b"], "answer": 0}, "there is no question"),
        ({"question": "Q", "answer": 0}, "there are no choices; give one of choices, options, endings"),
        ({"question": "Q", "choices": ["a"], "answer": 0}, "there is only one choice, 'a'"),
        ({"question": "Q", "choices": ["a", 2], "answer": 0}, "the field 'choices' must be a list of texts"),
        ({"question": "Q", "choices": ["a", "b"]}, "there is no answer"),
        ({"question": "Q", "choices": ["a", "b"], "answer": 2}, "is 2, which is none of the 2 choices"),
        ({"question": "Q", "choices": ["a", "b"], "answer": "C"}, "is 'C', which is none of the 2 choices"),
        ({"question": "Q", "choices": ["a", "b"], "answer": True}, "is True, which is none of the 2 choices"),
        ({"question": ["Q"], "choices": ["a", "b"], "answer": 0}, "the field 'question' is .* must be a text"),
    ],
)
def test_a_malformed_question_is_named_by_its_line(tmp_path: Path, row: object, message: str) -> None:
    good = {"question": "Q", "choices": ["a", "b"], "answer": 0}
    with pytest.raises(EvalError, match=rf"file\.jsonl, line 2: .*{message}"):
        read_questions(write(tmp_path / "file.jsonl", good, row))


def test_wrong_choices_answer_similar_questions_of_the_family() -> None:
    def example(question: str, answer: str, family: str) -> Example:
        return Example((Message("user", question), Message("assistant", answer)), family)

    cities = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Peru": "Lima", "Chile": "Santiago"}
    capitals = [example(f"What is the capital of {country}?", city, "capitals") for country, city in cities.items()]
    countries = [example(f"In which country is {city}?", country, "capitals") for country, city in cities.items()]
    alone = example("Who are you?", "A model.", "identity")
    questions = questions_of([*capitals, *countries, alone], distractors=3, seed=0)
    assert len(questions) == 10  # the family of one answer has no wrong ones
    for question in questions[:5]:
        assert len(set(question.choices)) == 4
        assert set(question.choices) <= set(cities.values())
        assert question.choices[question.answer] == cities[question.text.removeprefix("What is the capital of ")[:-1]]
    assert questions == questions_of([*capitals, *countries, alone], distractors=3, seed=0)
    assert len({question.answer for question in questions}) > 1


def test_a_test_split_with_a_single_answer_is_refused() -> None:
    same = [Example((Message("user", f"{i}?"), Message("assistant", "Yes"))) for i in range(3)]
    with pytest.raises(EvalError, match="no two questions with different answers"):
        Choice().items(same)


def test_a_model_that_knows_the_answers_chooses_them(
    model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    task = Choice()
    items = task.items(examples)
    learned = list(task.run(model("learned"), items))
    assert share(learned, "acc") == share(learned, "acc_norm") == 1.0
    assert [record.item for record in learned] == [item.id for item in items]
    assert {record.group for record in learned} == {"bright", "dull"}
    assert share(list(task.run(model("fresh"), items)), "acc") < 0.8
    assert task.notes(learned) == ("Guessing scores 25.0% in multiple choice.",)


def test_scores_equal_a_plain_transformers_computation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    hf = GPT2LMHeadModel(HfConfig(n_layer=2, n_head=2, n_embd=32, n_positions=64, initializer_range=0.3)).eval()
    hf.save_pretrained(tmp_path / "tiny")
    model = EvaluatedModel.load("tiny", Checkpoint.open(tmp_path / "tiny"), batch_size=2, dtype="fp32", quantize=None)
    contexts = [f"Item number {i} of the list" for i in range(9)]
    endings = ["is short", "is number one, of course", "ends"]
    rows = [{"ctx": context, "endings": endings, "label": 1} for context in contexts]
    task = Choice(path=write(tmp_path / "file.jsonl", *rows), format="raw", prompt="Text: {question}\nIt ")
    for record, context in zip(task.run(model, task.items(())), contexts, strict=True):
        sums: list[float] = []
        for ending in endings:
            prompt = model.tokenizer.encode(f"Text: {context}\nIt")
            ids = model.tokenizer.encode(f"Text: {context}\nIt {ending}")
            with torch.no_grad():
                logprobs = hf(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            sums.append(float(logprobs.gather(1, torch.tensor(ids[1:])[:, None])[len(prompt) - 1 :].sum()))
        assert record.details["logprobs"] == pytest.approx(sums, rel=1e-4)
        assert record.observations["acc"][0] == (max(sums) == sums[1])
        per_byte = [value / len(ending) for value, ending in zip(sums, endings, strict=True)]
        assert record.observations["acc_norm"][0] == (max(per_byte) == per_byte[1])


def test_shots_come_from_other_questions_and_are_drawn_by_the_seed(tmp_path: Path) -> None:
    rows = [{"question": f"Q{i}", "choices": ["a", "b"], "answer": 0} for i in range(8)]
    path = write(tmp_path / "file.jsonl", *rows)
    items = Choice(path=path, shots=3).items(())
    for item in items:
        assert len(set(item.content.shots)) == 3
        assert item.content.question not in item.content.shots
    assert items == Choice(path=path, shots=3).items(())
    other = Choice(path=path, shots=3, seed=1).items(())
    assert [item.content.shots for item in items] != [item.content.shots for item in other]
    assert [item.id for item in items] == [item.id for item in other]  # items pair across numbers of shots
    solved = write(tmp_path / "solved.jsonl", *({**row, "question": f"S{i}"} for i, row in enumerate(rows)))
    assert all(
        shot.text.startswith("S")
        for item in Choice(path=path, shots=2, shots_path=solved).items(())
        for shot in item.content.shots
    )
    with pytest.raises(EvalError, match="shots=8 asks for more solved questions than there are, 7"):
        Choice(path=path, shots=8).items(())


def test_shots_that_do_not_fit_are_dropped_and_a_question_that_does_not_counts_as_wrong(
    model: Callable[[str], EvaluatedModel], tmp_path: Path
) -> None:
    rows = [{"question": f"{i} " + "word " * 30, "choices": ["a", "b"], "answer": 0} for i in range(4)]
    task = Choice(path=write(tmp_path / "file.jsonl", *rows), shots=3)
    assert not any(record.details.get("does_not_fit") for record in task.run(model("fresh"), task.items(())))
    rows[2]["question"] = "word " * 200
    task = Choice(path=write(tmp_path / "file.jsonl", *rows))
    records = list(task.run(model("fresh"), task.items(())))
    assert [record.details.get("does_not_fit") for record in records] == [None, None, True, None]
    assert records[2].observations == {"acc": (0.0, 1.0), "acc_norm": (0.0, 1.0)}
    assert task.notes(records)[1] == "1 of 4 questions do not fit into the context and count as wrong."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "letters"}, "format must be chat or raw, not 'letters'"),
        ({"prompt": "Question:"}, "prompt must contain {question}, unlike 'Question:'"),
        ({"shots": -1}, "shots must be at least 0, not -1"),
        ({"distractors": 0}, "distractors must be at least 1, not 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EvalError, match=message):
        Choice(**settings)  # pyright: ignore[reportArgumentType]
