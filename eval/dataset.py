"""The examples that a checkpoint is scored on: the test split of the data it was trained on, or of other data."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from data.example import Example
from eval.errors import EvalError
from resonance.checkpoint import Checkpoint
from resonance.hydra_config import group_options, make


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A test split, and what a reader of scores on it has to know."""

    examples: Sequence[Example]
    note: str | None = None


def held_out(data: DictConfig | None, checkpoint: Checkpoint) -> HeldOut:
    """The test split of `data`, or where that is None, of the data in the checkpoint's `train.yaml`.

    Raises EvalError when there is no such data or it has no test split.
    """
    own = data is None
    source = make(_training_data(checkpoint) if own else data, _convert_="all")
    test: Sequence[Example] = source.splits().test
    if not test:
        raise EvalError("The data has no test split to evaluate on; choose other data with data=NAME.")
    known = checkpoint.metadata.data_fingerprint
    if own and known is not None and known != source.fingerprint():
        note = f"The data has changed since {checkpoint.name} was trained, so it may have seen some of the test split."
        return HeldOut(test, note)
    return HeldOut(test)


def part_of(examples: Sequence[Example], limit: int | None, seed: int) -> Sequence[Example]:
    """At most `limit` examples, drawn without replacement, in their order. Raises EvalError on a limit below 1."""
    if limit is None or limit >= len(examples):
        return examples
    if limit < 1:
        raise EvalError(f"limit must be at least 1, not {limit}.")
    return [examples[i] for i in sorted(random.Random(seed).sample(range(len(examples)), limit))]


def _training_data(checkpoint: Checkpoint) -> DictConfig:
    """The `data` node of the run's config.

    A checkpoint may come from elsewhere, and a config can name anything to be called, so only classes of this
    project's `data` room are let through.
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
    for target in _targets(node):
        if not _is_ours(target):
            raise EvalError(
                f"The train.yaml of {checkpoint.name} would call {target}, which is none of this project's data "
                "sources; if you trust it, name the data yourself with data=NAME."
            )
    return OmegaConf.create(node)


def _is_ours(target: str) -> bool:
    if not target.startswith("data."):
        return False
    try:
        found = get_object(target)
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(found, type) and found.__module__.startswith("data.")


def _targets(node: object) -> Iterator[str]:
    """Every `_target_` in a config, at any depth."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)
