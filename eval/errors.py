"""What can go wrong between `resonance eval` and its scores."""

from resonance.errors import ResonanceError


class EvalError(ResonanceError):
    """An evaluation that cannot be made, or whose numbers would mean nothing."""
