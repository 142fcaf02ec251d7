"""Checks the scores by which a run chooses its best weights and ends early, before its first step."""

from collections.abc import Sequence

from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from resonance.hydra_config import ConfigError
from train.callbacks.early_stopping import EarlyStopping
from train.callbacks.scores import check_measured, known_scores
from train.parts import Parts


def check_monitors(
    config: DictConfig, monitor: str, mode: str, callbacks: Sequence[Callback], parts: Parts
) -> list[str]:
    """Complete the settings of early stopping, and return notes on the choice of the best weights.

    `monitor` and `mode` choose those. Raises ConfigError for a score that nothing in the run measures.
    """
    known = known_scores(callbacks, parts.module_type.validation_modes)
    check_measured(monitor, mode, known)
    scores = {"save.keep_best": monitor} if config.save.get("keep_best", 0) else {}
    for callback in callbacks:
        if isinstance(callback, EarlyStopping):
            callback.choose(monitor, mode, known)
            scores["callbacks.early_stopping"] = callback.monitor
    if parts.data.splits.validation:
        return []
    for key, score in scores.items():
        if score.startswith("val/"):
            raise ConfigError(
                f"{key} needs {score}, but the data has no validation rows; give it some (for a file, "
                "data.validation=0.1), or choose a score that callbacks=evaluate measures."
            )
    if not config.save.best or not monitor.startswith("val/"):
        return []
    return [f"the data has no validation rows: {monitor} is not measured, and the newest weights are served"]
