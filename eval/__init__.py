"""Evaluation: tasks, metrics, statistics, and the report of `resonance eval`."""

from resonance.errors import ResonanceError


class EvalError(ResonanceError):
    """An evaluation that cannot run, or whose scores would be meaningless."""
