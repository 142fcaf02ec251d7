"""Early stopping on the validation loss."""

from lightning.pytorch.callbacks import EarlyStopping

from train.callbacks.run_folder import MONITOR


def early_stopping(*, patience: int | None, min_delta: float) -> EarlyStopping | None:
    """Lightning's callback on the run's monitored score; None without a patience."""
    return None if patience is None else EarlyStopping(MONITOR, patience=patience, min_delta=min_delta)
