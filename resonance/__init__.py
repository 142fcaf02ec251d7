"""Resonance: GPT-2 from scratch, from OpenAI's weights to an instruction-tuned model that is served.

Each name below is imported at its first use, so that the command line starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resonance.chat_template import ChatTemplate as ChatTemplate
    from resonance.chat_template import Message as Message
    from resonance.checkpoint import Checkpoint as Checkpoint
    from resonance.engine import Engine as Engine
    from resonance.engine import SamplingParams as SamplingParams
    from resonance.errors import ResonanceError as ResonanceError
    from resonance.model import GPT2 as GPT2
    from resonance.model_config import GPT2Config as GPT2Config
    from resonance.tokenizer import Tokenizer as Tokenizer

_MODULES = {
    "GPT2": "resonance.model",
    "GPT2Config": "resonance.model_config",
    "Tokenizer": "resonance.tokenizer",
    "Message": "resonance.chat_template",
    "ChatTemplate": "resonance.chat_template",
    "Checkpoint": "resonance.checkpoint",
    "Engine": "resonance.engine",
    "SamplingParams": "resonance.engine",
    "ResonanceError": "resonance.errors",
}

__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]  # one list, not two


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'resonance' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
