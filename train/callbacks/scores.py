"""Scores that callbacks measure during training, for `metrics.csv`, the loggers and the choice of the best weights."""

from collections.abc import Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from resonance.hydra_config import ConfigError, nearest

VALIDATION_LOSS = "val/loss"
DECLARED_PREFIXES = ("val", "eval")  # names with other prefixes may be logged by a callback that declares nothing


@runtime_checkable
class ScoreSource(Protocol):
    """A callback that measures scores of the present weights on its own schedule, the same on all ranks.

    It measures after a step and before the next one begins, so that a score belongs to the weights of its step.
    """

    @property
    def score_modes(self) -> Mapping[str, str]:
        """Its scores, such as `eval/instruct.exact_match`, each with `max` where more is better, else `min`."""
        ...

    @property
    def score_step(self) -> int:
        """The step of `scores`; 0 before the first."""
        ...

    @property
    def scores(self) -> Mapping[str, float]:
        """The scores at `score_step`; a name is absent where there was nothing to measure."""
        ...


def declared_scores(callbacks: Sequence[Callback]) -> dict[str, str]:
    """The scores that the callbacks declare, each with its mode."""
    sources = [callback.score_modes for callback in callbacks if isinstance(callback, ScoreSource)]
    return {name: mode for scores in sources for name, mode in scores.items()}


def callbacks_of(trainer: Trainer) -> Sequence[Callback]:
    """The run's callbacks."""
    return cast(Sequence[Callback], trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]  # set by Lightning


def scores_at_this_step(trainer: Trainer) -> dict[str, float]:
    """The scores that were measured after the last step."""
    sources = [callback for callback in callbacks_of(trainer) if isinstance(callback, ScoreSource)]
    current = [source.scores for source in sources if source.score_step == trainer.global_step]
    return {name: value for scores in current for name, value in scores.items()}


def known_scores(callbacks: Sequence[Callback], validation_modes: Mapping[str, str]) -> dict[str, str]:
    """The scores that the run is known to measure, each with its mode.

    `validation_modes` are those that validation measures beside its loss.
    """
    return {VALIDATION_LOSS: "min", **validation_modes, **declared_scores(callbacks)}


def check_measured(
    monitor: str, mode: str, known: Mapping[str, str], *, key: str = "save.monitor", mode_key: str = "save.mode"
) -> None:
    """Raise ConfigError for a `monitor` that nothing measures, and for a `mode` that would choose the worst.

    `known` are the scores that the run measures, each with its mode; `key` and `mode_key` are the settings' names.
    """
    if monitor in known and known[monitor] != mode:
        better = "higher" if known[monitor] == "max" else "lower"
        raise ConfigError(f"{monitor} is better when it is {better}; set {mode_key}={known[monitor]}, not {mode}.")
    if monitor in known or monitor.partition("/")[0] not in DECLARED_PREFIXES:
        return
    suggestion = _suggestion(monitor, list(known))
    raise ConfigError(f"{key} is {monitor!r}, which nothing in this run measures; {suggestion}")


def not_logged(key: str, monitor: str, trainer: Trainer) -> ConfigError:
    """The error for a score that nothing declares, and that the first validation has not logged."""
    names = sorted({*trainer.callback_metrics, *declared_scores(callbacks_of(trainer))})
    return ConfigError(f"{key} is {monitor!r}, which was not logged by the first validation; {nearest(monitor, names)}")


def _suggestion(monitor: str, names: Sequence[str]) -> str:
    if monitor.startswith("eval/") and len(names) == 1:
        return "callbacks=evaluate measures scores of tasks, such as eval/instruct.exact_match."
    return nearest(monitor, names)
