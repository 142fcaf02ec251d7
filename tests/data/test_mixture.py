"""Built-in conversations mixed into other data."""

import json
from pathlib import Path

import pytest

from data import DataError
from data.basics import MIX_IN
from data.mixture import MixedSource
from data.sources import BasicsSource, FileSource
from resonance.hydra_config import compose, make


@pytest.fixture
def instructions(tmp_path: Path) -> FileSource:
    rows = [{"instruction": f"Say {i}.", "output": str(i)} for i in range(100)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    return FileSource(str(path), train=0.8, validation=0.1, test=0.1)


def built_in() -> BasicsSource:
    return BasicsSource(train_size=30, validation_size=4, test_size=6, families=["cited"], chain_share=0.0)


def test_the_share_is_of_all_training_conversations_and_nothing_of_the_data_is_lost(instructions: FileSource) -> None:
    mixed = MixedSource(main=instructions, mixed_in=built_in(), share=0.2).splits()
    own = instructions.splits()
    added = [example for example in mixed.train if example.family == "cited"]
    assert len(added) == 20
    assert len(mixed.train) == 100
    assert {example.messages for example in own.train} <= {example.messages for example in mixed.train}
    assert [example.family for example in mixed.train[:20]].count("cited") not in (0, 20)


def test_both_held_out_parts_are_kept_apart_by_their_families(instructions: FileSource) -> None:
    mixed = MixedSource(main=instructions, mixed_in=built_in(), share=0.1).splits()
    assert [example.family for example in mixed.test] == [None] * 10 + ["cited"] * 6
    assert [example.family for example in mixed.validation] == [None] * 10 + ["cited"] * 4


def test_too_few_conversations_for_the_share_are_refused(instructions: FileSource) -> None:
    with pytest.raises(DataError, match=r"takes 80 of basics, which has 30; lower the share"):
        MixedSource(main=instructions, mixed_in=built_in(), share=0.5).splits()


def test_a_share_of_everything_is_refused(instructions: FileSource) -> None:
    with pytest.raises(DataError, match="below 1"):
        MixedSource(main=instructions, mixed_in=built_in(), share=1.0)


def test_the_books_data_with_sources_is_a_config(instructions: FileSource) -> None:
    config = compose("train", ["data=book_sources", f"data.main.path={instructions.path}"])
    source = make(config.data)
    families = [example.family for example in source.splits().train]
    assert sum(family in MIX_IN for family in families) == round(0.2 * len(families))
    assert source.name == f"{instructions.path} + basics"
