"""The built-in instruction data: some twenty families of small tasks with definite answers."""

from data.basics.generator import BasicsSettings, generate
from data.basics.registry import FAMILIES

__all__ = ["FAMILIES", "BasicsSettings", "generate"]
