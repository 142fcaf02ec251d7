"""The JSON file that stands beside a layout's tensors and says how large the model is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resonance.model_config import GPT2Config, ModelError
from resonance.weights.errors import WeightsError


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises WeightsError when it is missing or holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing; it holds the sizes of the model.") from None
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} must hold a JSON object, not {type(content).__name__}.")
    return content


def number(settings: Mapping[str, Any], key: str, default: float, where: object) -> float:
    """A setting that may be absent. Raises WeightsError when it is no number."""
    value = settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WeightsError(f"{where} must give a number for {key!r}, not {value!r}.")
    return value


def make_config(
    settings: Mapping[str, Any],
    keys: Mapping[str, str],
    where: object,
    *,
    dropout: float = GPT2Config().dropout,
    tie_weights: bool = True,
    layer_norm_epsilon: float = GPT2Config().layer_norm_epsilon,
    initializer_range: float = GPT2Config().initializer_range,
) -> GPT2Config:
    """The configuration whose sizes stand in the settings under a layout's own keys (ours: theirs).

    Raises WeightsError, naming the key, when one is missing or no whole number, or when they make no GPT-2.
    """
    sizes: dict[str, int] = {}
    for ours, theirs in keys.items():
        value = settings.get(theirs)
        if isinstance(value, bool) or not isinstance(value, int):
            raise WeightsError(f"{where} must give a whole number for {theirs!r}, not {value!r}.")
        sizes[ours] = value
    try:
        return GPT2Config(
            vocab_size=sizes["vocab_size"],
            context_length=sizes["context_length"],
            n_layer=sizes["n_layer"],
            n_head=sizes["n_head"],
            n_embd=sizes["n_embd"],
            dropout=dropout,
            tie_weights=tie_weights,
            layer_norm_epsilon=layer_norm_epsilon,
            initializer_range=initializer_range,
        )
    except ModelError as error:
        raise WeightsError(f"{where} makes no GPT-2: {error}") from None
