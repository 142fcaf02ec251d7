"""Instruction data: sources, formats, tokenisation, packing, and the Lightning data module."""

from resonance.errors import ResonanceError


class DataError(ResonanceError):
    """Data that cannot be read, recognised or trained on; the message names it and says what to do."""
