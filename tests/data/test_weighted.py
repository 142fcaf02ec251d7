"""Mixtures of several sources by weights."""

from collections import Counter
from pathlib import Path

import pytest

from data import DataError
from data.duplicates import describe, find_duplicates
from data.example import Example, Splits
from data.mixture import WeightedSource
from data.module import SFTDataModule
from data.sources import Source
from data.statistics import measure
from resonance.chat_template import ChatTemplate, Message
from resonance.hydra_config import compose, make

TEMPLATE = ChatTemplate.named("chatml")


class Numbers(Source):
    """`count` training examples, and a few held-out ones, that name their source."""

    def __init__(self, name: str, count: int, validation: int = 2) -> None:
        self._name, self._count, self._validation = name, count, validation

    @property
    def name(self) -> str:
        return self._name

    def read(self) -> Splits:
        def part(kind: str, count: int) -> list[Example]:
            return [
                Example((Message("user", f"{self._name} {kind} {i}?"), Message("assistant", self._name)), row=i + 1)
                for i in range(count)
            ]

        return Splits(part("train", self._count), part("validation", self._validation), part("test", 1))


def mixture(large: int = 60, small: int = 10, **settings: object) -> WeightedSource:
    arguments = {"weights": {"large": 2, "small": 1}} | settings
    return WeightedSource(sources={"large": Numbers("large", large), "small": Numbers("small", small)}, **arguments)


def sources_of(examples: object) -> Counter[str]:
    return Counter(example.answer for example in examples)  # pyright: ignore


def test_a_small_source_is_repeated_evenly_until_it_has_its_weight() -> None:
    train = mixture().splits().train
    assert sources_of(train) == {"large": 60, "small": 30}
    uses = Counter(example.messages for example in train)
    assert set(uses.values()) == {1, 3}
    assert len(uses) == 70


def test_without_upsampling_a_large_source_is_sampled_and_nothing_repeats() -> None:
    train = mixture(upsample=False).splits().train
    assert sources_of(train) == {"large": 20, "small": 10}
    assert len({example.messages for example in train}) == 30


def test_without_weights_all_examples_are_used_once() -> None:
    assert sources_of(mixture(weights=None).splits().train) == {"large": 60, "small": 10}


def test_the_order_is_mixed_and_a_function_of_the_seed() -> None:
    first, again, other = (mixture(seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert sources_of(first.splits().train[:30]).keys() == {"large", "small"}


def test_upsampled_examples_are_no_duplicates_and_deduplication_keeps_them() -> None:
    source = mixture(deduplicate="normalised")
    assert sources_of(source.splits().train) == {"large": 60, "small": 30}
    assert not measure("mixture", mixture().splits(), TEMPLATE, context_length=64, row_length=64).duplicates


@pytest.mark.parametrize("cached", [False, True])
def test_validation_batches_are_of_one_source_each_and_whole(tmp_path: Path, cached: bool) -> None:
    for _ in range(2):  # the second time from the cache
        cache = tmp_path if cached else None
        data = SFTDataModule(mixture(), TEMPLATE, context_length=64, batch_size=2, cache=cache)
        seen: Counter[int] = Counter()
        for batch in data.val_dataloader():
            documents = set(batch["document_ids"].unique().tolist()) - {-1}
            seen[int(batch["source"])] += len(documents)
            names = {data.splits.validation[i].answer for i in documents}
            assert names == {["large", "small"][int(batch["source"])]}
        assert seen == {0: 2, 1: 2}
        assert data.report.train.used == 90
        assert not data.report.duplicates


def test_the_report_on_leakage_names_an_upsampled_example_once() -> None:
    leaked = Example((Message("user", "How many?"), Message("assistant", "4")), row=84)
    other = Example((Message("user", "Which?"), Message("assistant", "5")), row=7)
    splits = Splits([leaked, other, leaked, leaked], [leaked], [])
    (sentence,) = describe(find_duplicates(splits), splits.train)
    assert sentence.startswith("3 training examples ask what validation asks")
    assert sentence.count("row 84") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_repeats": 2}, r"would use each of the 10 examples of small 3.0 times.*data.upsample=false"),
        ({"weights": {"large": 1}}, r"data.sources has 'small' and data.weights has not"),
        ({"weights": {"large": 1, "small": 1, "smal": 1}}, r"data.weights has 'smal' and data.sources has not"),
        ({"weights": {"large": 1, "small": 0}}, r"data.weights.small is 0; a weight must be a number above 0"),
        ({"max_repeats": 0}, r"data.max_repeats is 0"),
    ],
)
def test_a_wrong_mixture_is_refused_by_name(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        mixture(**settings).splits()


def test_the_config_takes_a_file_and_leaves_sources_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"prompt": "Say {i}.", "completion": "{i}"}}\n' for i in range(400)))
    overrides = ["data=mixture", f"data.sources.instructions.path={path}", "data.sources.basics.train_size=100"]
    source = make(compose("train", overrides).data)
    assert len(source.splits().train) == round(340 * 4 / 3)
    assert source.splits().validation_sources == {"instructions": 20, "basics": 100}
    alone = make(compose("train", [*overrides, "data.sources.basics=null", "~data.weights.basics"]).data)
    assert len(alone.splits().train) == 340
