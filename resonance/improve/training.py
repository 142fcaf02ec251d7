"""The configs of the candidate's training: those of the checkpoint in service, on feedback mixed with its own data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from resonance.atomic_files import write_text_atomically
from resonance.checkpoint import MODEL_FILE, Checkpoint
from resonance.errors import ResonanceError
from resonance.hydra_config import compose
from resonance.improve.settings import TrainSettings

RECORD_FILE = "improve.json"  # in a candidate's folder: what the next attempt has to know of it
CONFIG = "improve"  # the name of the configs that are written
OWN_DATA = "own"
WARMUP_STEPS = 5

Json = dict[str, Any]


class NotTrainable(ResonanceError):
    """A checkpoint whose training cannot be gone on with."""


@dataclass(frozen=True, slots=True)
class Origin:
    """How the checkpoint in service was trained: its own data's node, and its resolved config."""

    data: Json
    config: Json


def origin_of(checkpoint: Checkpoint) -> Origin:
    """Read how a checkpoint was trained. Raises NotTrainable where that is not known, or not by this project's code.

    A checkpoint that was itself made by `resonance improve` has a record of the data that it was mixed with.
    """
    text = checkpoint.train_yaml()
    if text is None:
        raise NotTrainable(
            f"{checkpoint.name} does not say how it was trained, so that its own data cannot be mixed in; improve a "
            "run of `resonance train`."
        )
    try:
        config = cast("Json", OmegaConf.to_container(OmegaConf.create(text), resolve=True))
        record_file = checkpoint.folder / RECORD_FILE
        if record_file.is_file():
            record = json.loads(record_file.read_text(encoding="utf-8"))
            data, config = cast("Json", record["own_data"]), cast("Json", record["config"])
        else:
            data = cast("Json", config["data"])
        objective = str(config.get("objective", {}).get("_target_", ".SFT"))
        for node, room in ((data, "data"), (config["optimizer"], "train"), (config.get("adapter") or {}, "resonance")):
            if (foreign := _foreign(node, room)) is not None:
                raise NotTrainable(
                    f"{checkpoint.name} was trained with {foreign}, which is none of this project's parts; train it on "
                    "by hand, with `resonance train`."
                )
    except (OSError, ValueError, TypeError, LookupError, YAMLError, OmegaConfBaseException) as error:
        raise NotTrainable(f"The train.yaml of {checkpoint.name} cannot be read ({error}).") from error
    if not objective.endswith(".SFT"):
        raise NotTrainable(
            f"{checkpoint.name} was trained by {objective.rpartition('.')[2]} on pairs or votes, which cannot be mixed "
            "with corrections; improve the run that it was trained from."
        )
    return Origin(data, config)


def write_configs(
    folder: Path, origin: Origin, weights: Path, feedback: Path, examples: int, settings: TrainSettings
) -> None:
    """Write configs for `--config-dir`: own data, the mixture, and the origin's model and optimiser.

    `examples` is the number of training examples in `feedback`.
    """
    total = round(examples * settings.passes / settings.share)
    optimizer = {
        key: value * settings.lr_scale if key == "lr" or key.endswith("_lr") else value
        for key, value in origin.config["optimizer"].items()
    }
    nodes: dict[str, Json] = {
        f"data/{OWN_DATA}": origin.data,
        f"data/{CONFIG}": {
            **_preset("mixture"),
            "weights": {OWN_DATA: 1 - settings.share, "feedback": settings.share},
            "size": total,
            "max_repeats": max(1000, 2 * settings.passes),
            "sources": {
                OWN_DATA: origin.data,
                "feedback": {**_preset("feedback"), "path": str(feedback), "learn": "examples", "run_objective": None},
            },
        },
        f"optimizer/{CONFIG}": optimizer,
        f"model/{CONFIG}": {**_model(origin), "weights": str(weights)},
    }
    if origin.config.get("adapter"):
        nodes[f"adapter/{CONFIG}"] = origin.config["adapter"]
    for name, node in nodes.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, OmegaConf.to_yaml(OmegaConf.create(node)))


def sft_words(configs: Path, origin: Origin, root: Path, run: str, settings: TrainSettings) -> list[str]:
    """The words of `resonance train` for supervised training."""
    batch, trainer = origin.config.get("batch", {}), origin.config.get("trainer", {})
    rows = settings.batch_size or max(1, int(batch.get("size", 8)) // 2)
    words = [
        "train", f"--config-dir={configs}", f"data={CONFIG}", f"model={CONFIG}", f"optimizer={CONFIG}",
        "scheduler=cosine", f"scheduler.warmup_steps={WARMUP_STEPS}", f"batch.size={rows}", "trainer.max_epochs=1",
        *_common(origin, root, run),
    ]  # fmt: skip
    for key in ("packing", "row_length", "max_length"):
        if batch.get(key) is not None:
            words.append(f"batch.{key}={str(batch[key]).lower()}")
    sampled = origin.config.get("loss", {}).get("sampled_tokens")
    words += [] if sampled is None else [f"loss.sampled_tokens={sampled}"]
    words += [] if trainer.get("precision") is None else [f"trainer.precision={trainer['precision']}"]
    if origin.config.get("adapter"):
        words.append(f"adapter={CONFIG}")
    return [*words, *settings.overrides]


def dpo_words(
    configs: Path, origin: Origin, root: Path, run: str, weights: Path, pairs: Path, settings: TrainSettings
) -> list[str]:
    """The words of `resonance train` for training on pairs, which holds to the weights that it starts from."""
    return [
        "train", f"--config-dir={configs}", "objective=dpo", "data=feedback", f"data.path={pairs}", f"model={CONFIG}",
        f"model.weights={weights}", f"trainer.max_epochs={settings.passes}",
        *_common(origin, root, run), *settings.overrides,
    ]  # fmt: skip


def kto_words(
    configs: Path, origin: Origin, root: Path, run: str, thumbs: Path, balance: str, settings: TrainSettings
) -> list[str]:
    """The words of `resonance train` for training on thumbs, which holds to the weights that it starts from."""
    return [
        "train", f"--config-dir={configs}", "objective=kto", "data=feedback", f"data.path={thumbs}", f"model={CONFIG}",
        balance, f"trainer.max_epochs={settings.passes}", *_common(origin, root, run), *settings.overrides,
    ]  # fmt: skip


def balance_of(up: int, down: int) -> str:
    """The weight that lets thumbs up and down count the same (Ethayarajh et al. 2024, section 4.2)."""
    if up < down:
        return f"objective.desirable_weight={down / max(1, up):.3f}"
    return f"objective.undesirable_weight={up / down:.3f}"


def write_record(folder: Path, origin: Origin, attempt: str, feedback_until: str | None) -> None:
    """Write into the candidate's folder what the next attempt has to know."""
    record = {
        "attempt": attempt,
        "feedback_until": feedback_until,
        "own_data": origin.data,
        "config": origin.config,
    }
    write_text_atomically(folder / RECORD_FILE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def disk_needed(checkpoint: Checkpoint) -> int:
    """Bytes that training a candidate takes at most: its weights twice, and the state of training."""
    return 8 * (checkpoint.folder / MODEL_FILE).stat().st_size


def _common(origin: Origin, root: Path, run: str) -> Sequence[str]:
    return (
        f"template={origin.config['template']['name']}",
        f"run={run}",
        f"checkpoints_dir={root}",
        "save.every_n_steps=25",
        "callbacks.samples.every_n_steps=0",
        "logger=none",
    )


def _preset(name: str) -> Json:
    """A node of configs/data/."""
    return cast("Json", OmegaConf.to_container(compose("data", [f"data={name}"]).data, resolve=False))


def _model(origin: Origin) -> Json:
    return {**origin.config["model"], "n_head_of_weights": None, "induction_heads": 0}


def _foreign(node: Mapping[str, Any], room: str) -> str | None:
    """The first `_target_` at any depth that is not of this room."""
    target = node.get("_target_")
    if isinstance(target, str) and not target.startswith(f"{room}."):
        return target
    below = (_foreign(cast("Json", child), room) for child in node.values() if isinstance(child, dict))
    return next((found for found in below if found is not None), None)
