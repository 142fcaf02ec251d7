"""Published figures stand beside the scores whose protocol they share, and nowhere else."""

import pytest

from eval.anchors import anchors_for


@pytest.mark.parametrize(
    ("task", "metric", "values"),
    [
        ("lambada", "accuracy_without_stop_words", [0.4599, 0.5548, 0.6012, 0.6324]),
        ("harness/lambada_openai", "acc,none", [0.4599, 0.5548, 0.6012, 0.6324]),
        ("wikitext2", "word_perplexity", [29.41, 22.76, 19.93, 18.34]),
        ("hellaswag", "acc_norm", [0.309, 0.390, 0.442, 0.502, 0.311, 0.430]),
        ("piqa", "acc_norm,none", [0.669]),
        ("hellaswag", "acc", []),
        ("cloze", "accuracy", []),  # the built-in cloze items are not LAMBADA's
    ],
)
def test_a_published_figure_stands_only_beside_its_own_benchmark(task: str, metric: str, values: list[float]) -> None:
    assert [anchor.value for anchor in anchors_for(task, metric)] == values


def test_the_books_figures_stand_only_beside_models_trained_on_its_data() -> None:
    assert anchors_for("judge", "grade", "basics") == ()
    assert anchors_for("judge", "grade") == ()
    (judged,) = anchors_for("judge", "grade", "https://host/instruction-data.json")
    assert (judged.value, judged.high) == (49.45, 51.75)
    (loss,) = anchors_for("perplexity", "perplexity", "/data/instruction-data.json")
    assert (loss.metric, loss.value) == ("validation loss", 0.66)


@pytest.mark.parametrize("key", [("lambada_openai", "acc"), ("wikitext2", "perplexity"), ("hellaswag", "acc_norm")])
def test_every_published_figure_names_its_protocol_and_source(key: tuple[str, str]) -> None:
    for anchor in anchors_for(*key):
        assert anchor.protocol and anchor.source and anchor.model
