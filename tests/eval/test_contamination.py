"""Items that overlap with the training data are found, and scores are computed again without them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.example import Example
from data.sources import BasicsSource
from eval import EvalError
from eval.contamination import TrainingNgrams, contamination_of
from eval.results import Result
from eval.tasks.base import Item, MetricSpec, Record, example_items
from eval.text_metrics import words
from resonance.chat_template import Message


def example(question: str, answer: str, context: str | None = None) -> Example:
    return Example((Message("user", question, context), Message("assistant", answer)))


def item(text: str) -> Item[None]:
    return Item(text, None, text)


TRAINED = [
    Example(
        (
            Message("system", "Answer briefly."),
            Message("user", "Name the capital of France."),
            Message("assistant", "Paris"),
            Message("user", "Who owns the hat?", "The hat belongs to Anna."),
            Message("assistant", "The hat belongs to Anna."),
        )
    ),
    example("Count: one two three four five six seven eight nine ten", "eleven twelve thirteen fourteen"),
]


@pytest.mark.parametrize(
    ("text", "touched"),
    [
        ("name the capital of france?\nPARIS", True),  # whole, apart from case and punctuation
        ("Name the capital of Spain.\nMadrid", False),
        ("Answer briefly. Name the capital of France.", False),  # system prompts are not compared
        ("Paris Who owns the hat", True),
        ("Anna. Count: one two", False),  # not within one conversation
        ("three four five six seven eight nine ten eleven twelve thirteen fourteen", True),  # 12 words, whole
        ("zero two three four five six seven eight nine ten eleven twelve thirteen fourteen", True),  # 13 of 14
        ("zero three four five six seven eight nine ten eleven twelve thirteen fourteen end", False),  # 12 of 14
        ("...", False),
    ],
)
def test_an_item_is_touched_by_a_shared_13_gram_or_as_a_whole_if_shorter(text: str, touched: bool) -> None:
    assert bool(TrainingNgrams(TRAINED, 13).touched([item(text)])) == touched


@given(
    training=st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=4),
    asked=st.lists(st.lists(st.sampled_from("abcd"), max_size=7), max_size=5),
    n=st.integers(1, 5),
)
def test_touched_items_are_those_of_a_naive_search(training: list[list[str]], asked: list[list[str]], n: int) -> None:
    def grams(text: list[str], length: int) -> set[tuple[str, ...]]:
        return {tuple(text[i : i + length]) for i in range(len(text) - length + 1)}

    index = TrainingNgrams([example(" ".join(text), "") for text in training], n)
    items = [Item(str(i), None, " ".join(text)) for i, text in enumerate(asked)]
    expected = {
        each.id
        for each, text in zip(items, asked, strict=True)
        if text and any(grams(text, min(n, len(text))) & grams(other, min(n, len(text))) for other in training)
    }
    assert index.touched(items) == expected


def test_scores_are_computed_again_without_the_touched_items() -> None:
    items = [item("Name the capital of France. Paris"), item("Capital of Peru? Lima"), item("Capital of Chile? Rome")]
    observed = [1.0, 1.0, 0.0]
    records = tuple(Record(each.id, {"exact_match": (value, 1.0)}) for each, value in zip(items, observed, strict=True))
    result = Result({"exact_match": MetricSpec("proportion", share=True)}, records)
    found = contamination_of(items, result, TrainingNgrams(TRAINED, 13))
    assert found.touched == {items[0].id}
    document = found.as_json()
    assert (document["items"], document["touched"], document["share"]) == (3, 1, pytest.approx(1 / 3))
    untouched = document["untouched"]
    assert isinstance(untouched, dict)
    assert (untouched["exact_match"]["value"], untouched["exact_match"]["n"]) == (0.5, 2)
    assert found.note("facts", result.specs) == (
        "facts: 1 of 3 items (33.3%) overlap with the training data; without them the exact match is 50.0% (n = 2)."
    )


def test_without_an_untouched_item_there_is_no_score_and_without_a_touched_one_no_note() -> None:
    items = [item("Name the capital of France. Paris")]
    result = Result({"acc": MetricSpec("proportion")}, (Record(items[0].id, {"acc": (1.0, 1.0)}),))
    found = contamination_of(items, result, TrainingNgrams(TRAINED, 13))
    assert found.untouched_scores == {}
    assert found.note("facts", result.specs) == "facts: 1 of 1 items (100.0%) overlap with the training data."
    assert contamination_of(items, result, TrainingNgrams([], 13)).note("facts", result.specs) is None


def test_the_built_in_test_split_is_not_in_the_training_data_and_a_leaked_item_is_found() -> None:
    splits = BasicsSource(train_size=4000, families=["calendar", "units"], test_size=60, validation_size=0).splits()
    items = example_items(splits.test)
    assert TrainingNgrams(splits.train, 13).touched(items) == frozenset()
    assert TrainingNgrams([*splits.train, splits.test[7]], 13).touched(items) == {items[7].id}


def test_twenty_thousand_conversations_are_compared_in_seconds() -> None:
    train = BasicsSource(train_size=20_000).splits()
    assert sum(len(words(each.answer)) for each in train.train) > 20_000
    started = time.process_time()
    TrainingNgrams(train.train, 13).touched(example_items(train.test))
    assert time.process_time() - started < 10  # about one on a quiet core


def test_an_ngram_below_one_is_refused() -> None:
    with pytest.raises(EvalError, match="ngram must be at least 1, not 0"):
        TrainingNgrams([], 0)
