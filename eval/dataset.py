"""The evaluation data: the test split of a checkpoint's training data, or of other data."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from data.duplicates import find_duplicates
from data.example import Example, Splits
from eval import EvalError
from resonance.checkpoint import Checkpoint
from resonance.hydra_config import group_options, make


@dataclass(frozen=True, slots=True)
class TestSplit:
    """A test split, its data's name and fingerprint, and a `note` that its scores' readers need."""

    examples: Sequence[Example]
    source: str | None
    fingerprint: str | None
    note: str | None = None


def load_test_split(data: DictConfig | None, checkpoint: Checkpoint) -> TestSplit:
    """Load the test split of `data`; None: of the data in the checkpoint's `train.yaml`.

    Raises EvalError when the checkpoint names no data, or the data has no test split.
    """
    source = make(_training_data(checkpoint) if data is None else data, _convert_="all")
    test: Sequence[Example] = source.splits().test
    if not test:
        raise EvalError("The data has no test split to evaluate on; choose other data with data=NAME.")
    trained_on, fingerprint = checkpoint.metadata.data_fingerprint, source.fingerprint()
    if data is None and trained_on is not None and trained_on != fingerprint:
        note = f"The data has changed since {checkpoint.name} was trained, so it may have seen some of the test split."
        return TestSplit(test, source.name, fingerprint, note)
    return TestSplit(test, source.name, fingerprint)


def load_training_examples(checkpoint: Checkpoint) -> list[Example]:
    """Load what a checkpoint was trained on, by its `train.yaml`, without the examples that training leaves out.

    Raises EvalError when the checkpoint names no data, or the data has changed since.
    """
    source = make(_training_data(checkpoint), _convert_="all")
    splits: Splits = source.splits()
    trained_on = checkpoint.metadata.data_fingerprint
    if trained_on is not None and trained_on != source.fingerprint():
        raise EvalError(f"The data has changed since {checkpoint.name} was trained.")
    left_out = find_duplicates(splits).held_out
    return [example for i, example in enumerate(splits.train) if i not in left_out]


def subsample(examples: Sequence[Example], limit: int | None, seed: int) -> Sequence[Example]:
    """At most `limit` examples, sampled without replacement, in order. Raises EvalError for a limit below 1."""
    if limit is None or limit >= len(examples):
        return examples
    if limit < 1:
        raise EvalError(f"limit must be at least 1, not {limit}.")
    return [examples[i] for i in sorted(random.Random(seed).sample(range(len(examples)), limit))]


def _training_data(checkpoint: Checkpoint) -> DictConfig:
    """The `data` node of the run's config.

    A checkpoint may come from elsewhere, and Hydra calls whatever a config names, so only classes of this project's
    `data` package are allowed.
    """
    try:
        config = yaml.safe_load(checkpoint.train_yaml() or "{}")
    except yaml.YAMLError as error:
        raise EvalError(f"The train.yaml of {checkpoint.name} is no YAML; name the data with data=NAME.") from error
    node = config.get("data") if isinstance(config, dict) else None
    if not isinstance(node, dict) or "_target_" not in node:
        raise EvalError(
            f"{checkpoint.name} does not say what data it was trained on; name some with data=NAME, "
            f"of {', '.join(group_options('data'))}."
        )
    target = foreign_target(node, "data")
    if target is not None:
        raise EvalError(
            f"The train.yaml of {checkpoint.name} would call {target}, which is none of this project's data "
            "sources; if you trust it, name the data yourself with data=NAME."
        )
    return OmegaConf.create(node)


def foreign_target(node: object, package: str) -> str | None:
    """The first `_target_` of a config, at any depth, that is not a class of this package of ours; None without one."""
    return next((target for target in _targets(node) if not _is_class_of(target, package)), None)


def _is_class_of(target: str, package: str) -> bool:
    if not target.startswith(f"{package}."):
        return False
    try:
        found = get_object(target)
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(found, type) and found.__module__.startswith(f"{package}.")


def _targets(node: object) -> Iterator[str]:
    """All `_target_` values of a config, at any depth."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)
