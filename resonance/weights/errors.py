"""The error that every reader and writer of weights raises."""

from resonance.errors import ResonanceError


class WeightsError(ResonanceError):
    """Weights that are missing, damaged, of another model, or that cannot be written as asked."""
