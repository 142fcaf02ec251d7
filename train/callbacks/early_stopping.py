"""Early stopping on the validation loss."""

from lightning.pytorch.callbacks import EarlyStopping

from train.callbacks.scores import VALIDATION_LOSS


def early_stopping(*, patience: int | None, min_delta: float) -> EarlyStopping | None:
    """Lightning's callback on the validation loss; None without a patience."""
    return None if patience is None else EarlyStopping(VALIDATION_LOSS, patience=patience, min_delta=min_delta)
