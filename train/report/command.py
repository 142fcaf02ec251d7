"""`report_only=true`: writes the report of an earlier run."""

from pathlib import Path

from resonance import paths
from resonance.hydra_config import ConfigError, compose
from train.report.page import write_report
from train.run_config import find_run

KEYS = ("report_only", "resume", "checkpoints_dir")


def report_only(overrides: list[str]) -> Path | None:
    """Write the report of the run that `resume` names, and return its path; None without `report_only=true`.

    Raises ConfigError without a run, for an unknown one, and for overrides that a report does not depend on.
    """
    key = KEYS[0]
    named = [override for override in overrides if override.split("=")[0] == key]
    if not named:
        return None
    value = compose("train", named).report_only
    if not isinstance(value, bool):
        raise ConfigError(f"report_only must be true or false, not {value!r}.")
    if not value:
        return None
    others = [override.split("=")[0] for override in overrides if override.split("=")[0] not in KEYS]
    if others:
        raise ConfigError(f"report_only=true writes the report of a run as it is; leave out {others[0]}=.")
    selection = compose("train", overrides)
    if selection.resume is None:
        raise ConfigError("report_only=true needs the run whose report to write: resume=RUN.")
    root = Path(selection.checkpoints_dir).expanduser().resolve() if selection.checkpoints_dir else paths.CHECKPOINTS
    return write_report(find_run(str(selection.resume), root, "to report on"))
