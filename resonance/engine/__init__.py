"""The inference engine: continuous batching over preallocated cache slots."""

from resonance.engine.engine import Engine
from resonance.engine.params import EngineError, SamplingParams
from resonance.engine.results import Completion, Piece
from resonance.engine.stats import EngineStats

__all__ = ["Completion", "Engine", "EngineError", "EngineStats", "Piece", "SamplingParams"]
