"""Cloze: where a passage's last word begins, its layouts, and scores equal to transformers'."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config as HfConfig
from transformers import GPT2LMHeadModel

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.tasks.cloze import Cloze, Passage
from resonance.chat_template import Message
from resonance.checkpoint import Checkpoint


def passages(tmp_path: Path, content: str, name: str = "file.jsonl") -> list[Passage]:
    (tmp_path / name).write_text(content, encoding="utf-8")
    return [item.content for item in Cloze(path=str(tmp_path / name)).items(())]


def test_the_last_word_is_the_target_and_keeps_the_space_before_it(tmp_path: Path) -> None:
    lines = '{"text": "He took his coat and left. "}\n{"text": "one\\ntwo"}\n{"prompt": "Say ", "target": "it now"}'
    assert passages(tmp_path, lines) == [
        Passage("He took his coat and", " left."),
        Passage("one\n", "two"),
        Passage("Say", " it now"),
    ]
    assert passages(tmp_path, "A b c\n\nD e\n", "file.txt") == [Passage("A b", " c"), Passage("D", " e")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a b"}\n{"text": "single"}', "line 2: 'single' is a single word"),
        ('{"text": "a b"}\n{"passage": "a b"}', "line 2: there is neither a `text` nor a `context` with its `target`"),
        ('{"context": "a b", "target": ""}', "line 1: the field 'target' is empty"),
        ('{"text": "a b"', "line 1: Expecting ',' delimiter"),
    ],
)
def test_a_malformed_passage_is_named_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(EvalError, match=message):
        passages(tmp_path, content)


def test_scores_equal_a_plain_transformers_computation(tmp_path: Path) -> None:
    torch.manual_seed(1)
    hf = GPT2LMHeadModel(HfConfig(n_layer=2, n_head=2, n_embd=32, n_positions=32, initializer_range=0.3)).eval()
    hf.save_pretrained(tmp_path / "tiny")
    model = EvaluatedModel.load("tiny", Checkpoint.open(tmp_path / "tiny"), batch_size=2, dtype="fp32", quantize=None)
    encode = model.tokenizer.encode
    texts = [f"Passage number {i} is about a thing called unfathomability{i}" for i in range(6)]
    texts += ["a long passage " * 20 + "ends", "the same as greedy decoding"]

    def logits(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return hf(torch.tensor([ids])).logits[0]

    prompt = encode("the same as greedy decoding")
    texts.append("the same as greedy decoding" + model.tokenizer.decode([int(logits(prompt)[-1].argmax())]))
    file = tmp_path / "file.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    task = Cloze(path=str(file))
    items = task.items(())
    records = list(task.run(model, items))
    for record, item in zip(records, items, strict=True):
        context, target = encode(item.content.context), encode(item.content.target)
        ids = [*context, *target][-33:]
        rows = logits(ids[:-1])[-len(target) :]
        nats = -rows.log_softmax(-1).gather(1, torch.tensor(target)[:, None]).sum().item()
        assert record.observations["perplexity"] == (pytest.approx(nats, rel=1e-4), 1.0)
        assert record.correct == (rows.argmax(-1).tolist() == target)
        assert record.observations["accuracy"] == (float(bool(record.correct)), 1.0)
        assert record.correct == (record.answer == record.expected)


def test_the_built_in_passages_end_the_test_splits_answers(
    model: Callable[[str], EvaluatedModel], examples: list[Example]
) -> None:
    task = Cloze()
    items = task.items(examples)
    assert [item.content.target for item in items] == [example.answer for example in examples]
    records = list(task.run(model("learned"), items))
    assert all(record.correct for record in records)
    assert {record.group for record in records} == {"bright", "dull"}
    nats = sum(record.observations["perplexity"][0] for record in records)
    assert math.exp(nats / len(records)) < 1.2
    fresh = list(task.run(model("fresh"), items))
    assert not any(record.correct for record in fresh)


def test_the_words_of_an_answer_before_its_last_are_part_of_the_prompt(
    taught: Callable[[list[Example]], EvaluatedModel],
) -> None:
    examples = [
        Example((Message("user", f"Where is the {thing}?"), Message("assistant", f"The {thing} is in the {place}.")))
        for thing, place in (("hat", "park"), ("key", "library"))
    ]
    task = Cloze()
    items = task.items(examples)
    assert items[0].content.context == "The hat is in the"
    records = list(task.run(taught(examples), items))
    assert [record.answer for record in records] == ["park.", "library."]
    assert records[0].question == "Where is the hat?\n→ The hat is in the"


def test_a_passage_that_does_not_fit_counts_as_wrong(model: Callable[[str], EvaluatedModel]) -> None:
    long = Example((Message("user", "word " * 200), Message("assistant", "yes")))
    task = Cloze()
    (record,) = task.run(model("fresh"), task.items([long]))
    assert record.observations == {"accuracy": (0.0, 1.0)}
    assert task.notes([record]) == ("1 of 1 passages do not fit into the context and count as wrong.",)


def test_a_stop_word_may_not_begin_where_they_are_filtered(
    taught: Callable[[list[Example]], EvaluatedModel],
) -> None:
    examples = [
        Example((Message("user", f"What does {name} want?"), Message("assistant", answer)))
        for name, answer in (("Ann", "She wants the"), ("Ben", "He wants bread"))
    ]
    task = Cloze(stop_word_filter=True)
    assert list(task.metrics) == ["accuracy", "accuracy_without_stop_words", "perplexity"]
    records = list(task.run(taught(examples), task.items(examples)))
    assert [record.observations["accuracy"][0] for record in records] == [1.0, 1.0]
    assert [record.observations["accuracy_without_stop_words"][0] for record in records] == [0.0, 1.0]
