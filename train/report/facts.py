"""What a report says of a run beside its curves: its facts, and the settings that differ from the defaults."""

import json
from collections.abc import Mapping

from omegaconf import OmegaConf

from resonance.hydra_config import compose
from train.report.run_record import RunRecord
from train.run_config import flatten, format_value

_UNSHOWN = ("run", "checkpoints_dir")  # they say where the run is, not what it trains


def facts_of(run: RunRecord, ended: str, total_steps: int | None) -> list[tuple[str, str]]:
    """The name and the text of what is known of the run."""
    record, metadata, config = run.training, run.metadata, run.config
    facts: list[tuple[str, object]] = [
        ("Command", record.get("command")),
        ("Started", record.get("started_at")),
        ("End", ended),
        ("Steps", f"{run.step:,}" + ("" if total_steps is None else f" of {total_steps:,}")),
        ("Epoch", None if (epoch := run.last("epoch")) is None else f"{epoch + 1:.0f}"),
        ("Served weights", _served(metadata)),
        ("Data", metadata.get("data")),
        ("Fingerprint of the data", metadata.get("data_fingerprint")),
        ("Model", ", ".join(f"{key} {value}" for key, value in config.model.items() if isinstance(value, int))),
        ("Parameters", None if run.parameters is None else f"{run.parameters:,}"),
        ("Weights to start from", metadata.get("base") or "none, from scratch"),
        ("Adapter", json.dumps(metadata["adapter"]) if metadata.get("adapter") else None),
        ("Objective", record.get("objective")),
        ("Optimizer", _node(config, "optimizer")),
        ("Schedule", _node(config, "scheduler")),
        ("Batch", ", ".join(f"{key} {value}" for key, value in config.batch.items() if value is not None)),
        ("Micro-batches a step", config.trainer.accumulate_grad_batches),
        ("Seed", config.seed),
        ("Precision", record.get("precision")),
        ("Tokens", f"{run.progress[1]:,}"),
        ("Time", None if run.seconds is None else duration(run.seconds)),
        ("Cost", cost_of(run)),
        ("Hardware", _flat(record.get("hardware"))),
        ("Versions", _flat(record.get("versions"))),
        ("Git commit", metadata.get("git_commit")),
        ("Resumed", len(metadata.get("resumes") or []) or None),
    ]
    return [(name, str(value)) for name, value in facts if value is not None and value != ""]


def changed_settings(run: RunRecord) -> list[tuple[str, str, str]]:
    """Key, value and default (empty without one) of each setting that differs from `configs/train.yaml`."""
    default, own = (flatten(OmegaConf.to_container(node, resolve=False)) for node in (compose("train"), run.config))
    return [
        (key, format_value(value), format_value(default[key]) if key in default else "")
        for key, value in own.items()
        if key not in _UNSHOWN and value != {} and (key not in default or value != default[key])
    ]


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"


def cost_of(run: RunRecord) -> str | None:
    """Hours of devices, and their price if `callbacks.report.price_per_hour` says it; None before the first save."""
    seconds = run.training.get("duration_s")
    if seconds is None:
        return None
    hours = seconds / 3600 * int(run.training.get("world_size") or 1)
    unit = "GPU-hours" if run.training.get("accelerator") == "cuda" else "machine-hours"
    price = OmegaConf.select(run.config, "callbacks.report.price_per_hour")
    return f"{hours:,.3f} {unit}" + ("" if price is None else f", {hours * price:,.2f} at {price:g} an hour")


def _served(metadata: Mapping[str, object]) -> str | None:
    monitor, step = metadata.get("monitor"), metadata.get("steps")
    if not step:
        return None
    if metadata.get("weights") == "last" or not isinstance(monitor, Mapping):
        return f"of step {step:,}, the newest"
    return f"of step {step:,}, the best by {monitor['name']} ({monitor['value']:.4g})"


def _node(config: object, key: str) -> str:
    node = OmegaConf.to_container(OmegaConf.select(config, key) or OmegaConf.create({}))  # pyright: ignore[reportArgumentType]
    return _flat(
        {name: value for name, value in node.items() if not str(name).endswith("_") or name == "_target_"}
        if isinstance(node, dict)
        else None
    )


def _flat(values: object) -> str:
    if not isinstance(values, Mapping):
        return ""
    parts = [(str(name), value) for name, value in values.items() if value not in (None, [], "")]
    return ", ".join(
        str(value).rpartition(".")[2] if name == "_target_" else f"{name} {value}" for name, value in parts
    )
