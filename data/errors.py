"""What can be wrong with instruction data."""

from resonance.errors import ResonanceError


class DataError(ResonanceError):
    """Data that cannot be read, recognised or trained on; the sentence says which and what to do."""
