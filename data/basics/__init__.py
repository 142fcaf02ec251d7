"""The built-in instruction data: some twenty families of small tasks with definite answers."""

from data.basics.generator import BasicsSettings, generate
from data.basics.registry import FAMILIES, MIX_IN

__all__ = ["FAMILIES", "MIX_IN", "BasicsSettings", "generate"]
