"""Hydra at the edge: `configs/<command>.yaml` and overrides become values, and mistakes become sentences."""

import inspect
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
)
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resonance.errors import ResonanceError
from resonance.paths import PROJECT_ROOT

CONFIGS = PROJECT_ROOT / "configs"
HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


class ConfigError(ResonanceError):
    """An override that names no key or group, or a value that its key cannot have."""


def compose(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose `configs/<name>.yaml` with Hydra overrides such as `model=gpt2` and `trainer.max_steps=200`.

    Raises ConfigError, with the nearest right name, on a mistyped key or group, and on a value of another type than
    the key's default.
    """
    parsed = [_parse(override) for override in overrides]
    groups = [override for override in parsed if _is_group(override)]
    values = [override for override in parsed if override not in groups]
    for override in groups:
        _check_group(override)
    lines = [str(override.input_line) for override in groups]
    base = _compose(name, lines)
    known = _keys(OmegaConf.to_container(base, resolve=False))
    for override in values:
        if override.is_add() and override.key_or_group in known:  # there by default: as good as without the plus
            override.type, override.input_line = OverrideType.CHANGE, str(override.input_line).lstrip("+")
        _check_value(override, base)
    return _compose(name, lines + [str(override.input_line) for override in values]) if values else base


def override_values(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A copy of a config that was composed before, with some of its values replaced.

    Raises ConfigError as `compose` does, and when a whole group would be replaced.
    """
    config = config.copy()
    for line in overrides:
        override = _parse(line)
        if _is_group(override):
            raise ConfigError(f"{line} would replace what a stored config was made of; only single keys can change.")
        _check_value(override, config)
        OmegaConf.update(config, override.key_or_group, override.value(), force_add=override.is_add())
    return config


def make(node: DictConfig, **more: object) -> Any:
    """The object that a config's `_target_` describes; lists and nodes inside it arrive as plain lists and dicts.

    Our own errors come out as they were raised. Raises ConfigError, with the key, for a target that cannot be
    imported, a setting that it does not have, and one that it refuses.
    """
    key = str(node._get_full_key(None))  # pyright: ignore[reportPrivateUsage]  # omegaconf tells it nowhere else
    key = key or str(node.get("_target_"))
    _check_settings(node, key)
    try:
        return instantiate(node, **{"_convert_": "all", **more})
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ResonanceError):
            raise cause from None
        if cause is None or isinstance(cause, ImportError | AttributeError | TypeError | ValueError | LookupError):
            raise ConfigError(f"{key} cannot be made: {_first_sentence(error)}") from error
        raise


def _check_settings(node: DictConfig, key: str) -> None:
    """Raise ConfigError for a setting that the node's `_target_`, or that of a node inside it, does not have."""
    for name, below in node.items():
        if isinstance(below, DictConfig):
            _check_settings(below, f"{key}.{name}")
    target = node.get("_target_")
    if not isinstance(target, str):
        return
    try:
        parameters = inspect.signature(get_object(target)).parameters
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{key}._target_ is {target}, which cannot be imported: {_first_sentence(error)}") from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in node:
        if name not in parameters and name not in HYDRA_KEYS:
            raise ConfigError(f"There is no key '{key}.{name}'; {nearest(str(name), list(parameters))}")


def nearest(word: str, there: Sequence[str]) -> str:
    """A sentence's end that names what `word` may have been meant to be: `did you mean 'x'?`, or all there is."""
    close = get_close_matches(word, there, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(there))}."


def group_options(group: str) -> list[str]:
    """The choices in a config group, by the names of its files."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def _parse(line: str) -> Override:
    key, _, value = line.partition("=")
    quoted = value.replace("'", "\\'")
    for form in (line, f"{key}='{quoted}'"):  # text that is not of Hydra's grammar is meant as text
        try:
            return OverridesParser.create().parse_override(form)
        except HydraException:
            continue
    raise ConfigError(f"{line!r} is not an override; write key=value.")


def _is_group(override: Override) -> bool:
    return (CONFIGS / override.key_or_group).is_dir()


def _check_group(override: Override) -> None:
    group, choice = override.key_or_group, override.value()
    if isinstance(choice, str | int | float) and str(choice) not in group_options(group):
        raise ConfigError(f"There is no {group} {str(choice)!r}; {nearest(str(choice), group_options(group))}")


def _check_value(override: Override, base: DictConfig) -> None:
    if override.is_add() or override.is_delete():
        return
    key = override.key_or_group
    known = _keys(OmegaConf.to_container(base, resolve=False))
    if key not in known:
        groups = [path.name for path in CONFIGS.iterdir() if path.is_dir()]
        raise ConfigError(f"There is no key {key!r}; {nearest(key, [*known, *groups])}")
    default, value = OmegaConf.select(base, key, throw_on_missing=False), override.value()
    if default is None or value is None:
        return
    for kind, said in ((bool, "true or false"), (int, "a whole number"), (float, "a number")):
        if isinstance(default, kind):
            fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
            if not fits or (isinstance(value, bool) and kind is not bool):
                raise ConfigError(f"{key} must be {said}, not {str(value)!r}.")
            return


def _keys(node: object, prefix: str = "") -> list[str]:
    """Every key of a config, inner nodes included, in dotted form."""
    if not isinstance(node, dict):
        return []
    return [name for key, below in node.items() for name in (f"{prefix}{key}", *_keys(below, f"{prefix}{key}."))]


def _compose(name: str, overrides: list[str]) -> DictConfig:
    return _composed(CONFIGS, name, tuple(overrides)).copy()


@cache
def _composed(configs: Path, name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Hydra's composition, which takes a good part of a second, once for each line of overrides."""
    if not (configs / f"{name}.yaml").is_file():
        raise ConfigError(f"There is no {configs / name}.yaml; Resonance runs from its checkout (pip install -e .).")
    try:
        with initialize_config_dir(config_dir=str(configs), version_base="1.3"):
            return hydra_compose(name, list(overrides))
    except MissingConfigException as error:
        raise ConfigError(_first_sentence(error)) from error
    except (ConfigCompositionException, OmegaConfBaseException) as error:
        raise ConfigError(_first_sentence(error)) from error


def _first_sentence(error: Exception) -> str:
    """One line of a library's message: the innermost cause, without its list of internals."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line for line in re.split(r"\n", str(cause)) if line.strip()]
    return lines[0].strip() if lines else type(cause).__name__
