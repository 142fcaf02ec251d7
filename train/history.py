"""What the record of a run says that is resumed or made again: what may differ, and what is told of it."""

from dataclasses import replace

from resonance.hydra_config import ConfigError
from resonance.metadata import Metadata
from train.provenance import git_commit
from train.record import library_versions, now
from train.resolve import Plan, shown


def with_history(metadata: Metadata, plan: Plan) -> Metadata:
    """A run's record with what it had before it was resumed, or with the run that it repeats.

    Raises ConfigError when the data or the weights that a run is made again from are not those that it had.
    """
    before = plan.recorded
    if before is None:
        return metadata
    if plan.remade is None:
        kept = {key: before.training[key] for key in ("command", "started_at", "duration_s") if key in before.training}
        return replace(metadata, training=kept, resumes=before.resumes, last=before.last)
    for key, was, now_is, what in (
        ("data", before.data_fingerprint, metadata.data_fingerprint, "data"),
        ("model", before.base_sha256, metadata.base_sha256, "weights to start from"),
    ):
        meant = any(name.split(".")[0] == key for name in plan.changes)
        if was != now_is and not meant:
            raise ConfigError(
                f"{plan.remade} cannot be made again: its {what} had the fingerprint {was}, and now have {now_is}; put "
                f"them back, or name others ({key}.*=...)."
            )
    return replace(metadata, training={"from_checkpoint": plan.remade})


def recorded_settings(plan: Plan) -> dict[str, object]:
    """What `auto` came to when the run was first trained: it is not asked again."""
    precision = None if plan.recorded is None else plan.recorded.training.get("precision")
    return {"precision": precision} if precision and plan.config.trainer.precision == "auto" else {}


def resume_entry(plan: Plan) -> dict[str, object]:
    """What a run's record says of a resume."""
    changed = {key: [before, after] for key, (before, after) in plan.changes.items()}
    return {"at": now(), "command": plan.command, "changed": changed, "git_commit": git_commit()}


def nothing_to_do(plan: Plan, done: int, total: int) -> str | None:
    """Why a run at step `done` is not trained on, in a sentence; None where it is."""
    name = plan.folder.name
    if done >= total:
        return f"{name} is finished: step {done} of {total}, so there is nothing to do; trainer.max_steps=N trains on."
    ended = plan.recorded is not None and plan.recorded.training.get("ended") == "stopped early"
    last = plan.recorded and plan.recorded.last
    stopping = any(key.startswith("callbacks.early_stopping") for key in plan.changes)
    if ended and last and last.steps == done and not stopping:
        return (
            f"{name} stopped early at step {done} of {total}, so there is nothing to do; "
            "callbacks.early_stopping.patience=null trains on."
        )
    return None


def announced(plan: Plan, done: int) -> list[str]:
    """What is printed when a run begins that something of its name or config was there for."""
    changes = ", ".join(f"{key} {shown(before)} -> {shown(after)}" for key, (before, after) in plan.changes.items())
    if plan.resumed:
        start = f"resuming from step {done}" if plan.state else "nothing was saved yet: beginning with step 1"
        return [start + (f" with {changes}" if changes else "")]
    if plan.remade is None or plan.recorded is None:
        return []
    lines = [f"making {plan.remade} again" + (f" with {changes}" if changes else "")]
    for entry in plan.recorded.resumes:
        if entry.get("changed"):
            lines.append(
                f"{plan.remade} was resumed at step {entry.get('from_step')} with {entry['changed']}; this run has "
                "that from its first step on"
            )
    return [*lines, *_other_versions(plan.recorded.training.get("versions"))]


def _other_versions(recorded: object) -> list[str]:
    if not isinstance(recorded, dict):
        return []
    present = library_versions()
    other = [
        f"{name} {recorded[name]} -> {present.get(name)}" for name in recorded if recorded[name] != present.get(name)
    ]
    return [f"other versions may change its curve: {', '.join(other)}"] if other else []
