"""Provenance: what a run's record says of its origin, so that the run can be reproduced."""

from dataclasses import replace

from lightning import Trainer

from data.packing import Shares
from resonance.hydra_config import ConfigError
from resonance.metadata import Metadata
from resonance.provenance import git_commit, hardware, library_versions, now
from train.objectives import Objective, describe
from train.run_config import RunSpec, format_value

LIBRARIES = ("resonance", "torch", "lightning", "numpy", "safetensors", "tiktoken", "datasets", "hydra-core")


def with_history(metadata: Metadata, spec: RunSpec) -> Metadata:
    """A run's record with the earlier record of a resumed run, or with the name of the run it reproduces.

    Raises ConfigError when the data or the initial weights of the reproduced run have changed.
    """
    before = spec.recorded
    if before is None:
        return metadata
    if spec.reproduces is None:
        kept = {key: before.training[key] for key in ("command", "started_at", "duration_s") if key in before.training}
        return replace(metadata, training=kept, resumes=before.resumes, last=before.last)
    for key, old, new, what in (
        ("data", before.data_fingerprint, metadata.data_fingerprint, "data"),
        ("model", before.base_sha256, metadata.base_sha256, "weights to start from"),
    ):
        overridden = any(name.split(".")[0] == key for name in spec.changes)
        if old != new and not overridden:
            raise ConfigError(
                f"{spec.reproduces} cannot be made again: its {what} had the fingerprint {old}, and now have {new}; "
                f"put them back, or name others ({key}.*=...)."
            )
    return replace(metadata, training={"from_checkpoint": spec.reproduces})


def recorded_settings(spec: RunSpec) -> dict[str, object]:
    """The values that `auto` settings had in the recorded run; they are not resolved again."""
    precision = None if spec.recorded is None else spec.recorded.training.get("precision")
    return {"precision": precision} if precision and spec.config.trainer.precision == "auto" else {}


def resume_entry(spec: RunSpec) -> dict[str, object]:
    """The entry of a resume in a run's record."""
    changed = {key: [before, after] for key, (before, after) in spec.changes.items()}
    return {"at": now(), "command": spec.command, "changed": changed, "git_commit": git_commit()}


def nothing_to_do(spec: RunSpec, done: int, total: int) -> str | None:
    """Why a run at step `done` of `total` does not continue, as a sentence; None if it does."""
    name = spec.folder.name
    if done >= total:
        return f"{name} is finished: step {done} of {total}, so there is nothing to do; trainer.max_steps=N trains on."
    stopped_early = spec.recorded is not None and spec.recorded.training.get("ended") == "stopped early"
    last = spec.recorded and spec.recorded.last
    patience_changed = any(key.startswith("callbacks.early_stopping") for key in spec.changes)
    if stopped_early and last and last.steps == done and not patience_changed:
        return (
            f"{name} stopped early at step {done} of {total}, so there is nothing to do; "
            "callbacks.early_stopping.patience=null trains on."
        )
    return None


def start_messages(spec: RunSpec, done: int, shares: Shares) -> list[str]:
    """The console lines at the start of a run that is resumed or reproduces another one."""
    changes = ", ".join(
        f"{key} {format_value(before)} -> {format_value(after)}" for key, (before, after) in spec.changes.items()
    )
    if spec.resumed:
        start = f"resuming from step {done}" if spec.state else "no state was saved: starting at step 1"
        lines = [start + (f" with {changes}" if changes else "")]
        if (shares.batch_size, shares.parts) != (spec.config.batch.size, 1):
            each = f"{shares.rows // shares.world_size}" + (f" in {shares.parts} batches" if shares.parts > 1 else "")
            lines.append(
                f"steps stay the same: of {shares.rows} rows at once, each of {shares.world_size} processes "
                f"trains on {each}"
            )
        return lines
    if spec.reproduces is None or spec.recorded is None:
        return []
    lines = [f"making {spec.reproduces} again" + (f" with {changes}" if changes else "")]
    for entry in spec.recorded.resumes:
        if entry.get("changed"):
            lines.append(
                f"{spec.reproduces} was resumed at step {entry.get('from_step')} with {entry['changed']}; this run "
                "applies it from its first step"
            )
    return [*lines, *_version_changes(spec.recorded.training.get("versions"))]


def _version_changes(recorded: object) -> list[str]:
    if not isinstance(recorded, dict):
        return []
    present = library_versions(LIBRARIES)
    changed = [
        f"{name} {recorded[name]} -> {present.get(name)}" for name in recorded if recorded[name] != present.get(name)
    ]
    return [f"different library versions may change the loss curve: {', '.join(changed)}"] if changed else []


def training_record(
    trainer: Trainer, *, command: str, row_length: int | None, objective: Objective
) -> dict[str, object]:
    """The command, the objective, the values of `auto` settings, the hardware and the library versions of a run."""
    return {
        "command": command,
        "objective": describe(objective),
        "averaged": objective.ema_decay,
        "started_at": now(),
        "precision": str(trainer.precision),
        "accelerator": type(trainer.accelerator).__name__.removesuffix("Accelerator").lower(),
        "devices": trainer.num_devices,
        "world_size": trainer.world_size,
        "row_length": row_length,
        "hardware": hardware(),
        "versions": library_versions(LIBRARIES),
    }
