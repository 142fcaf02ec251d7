"""Hydra at the edge: composes `configs/<command>.yaml` with overrides, and explains mistakes in one sentence."""

import inspect
import logging
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from warnings import catch_warnings, simplefilter

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resonance.errors import ResonanceError
from resonance.paths import CONFIGS

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs the errors that it raises, and we print those
HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


class ConfigError(ResonanceError):
    """An override of an unknown key or group, or with a value that the key does not take."""


def compose(name: str, overrides: Sequence[str] = (), configs: Path = CONFIGS) -> DictConfig:
    """Compose `<name>.yaml` with Hydra overrides such as `model=gpt2` and `trainer.max_steps=200`.

    A package that adds a command passes its own folder of `configs`. Raises ConfigError, with the nearest right name,
    on a mistyped key or group, and on a value of another type than the key's default.
    """
    return _composed(configs, name, checked_overrides(name, overrides, configs)).copy()


def checked_overrides(name: str, overrides: Sequence[str], configs: Path = CONFIGS) -> tuple[str, ...]:
    """The overrides in a form that Hydra reads, in their order; raises ConfigError as `compose` does."""
    parsed = [_parse(override) for override in overrides]
    groups = [override for override in parsed if group_options(override.key_or_group, configs)]
    values = [override for override in parsed if override not in groups]
    for override in groups:
        _check_group(override, configs)
    base = _composed(configs, name, tuple(str(override.input_line) for override in groups)).copy()
    known = _keys(OmegaConf.to_container(base, resolve=False))
    for override in values:
        if override.is_add() and override.key_or_group in known:  # `+key` of a key that exists changes it
            override.type, override.input_line = OverrideType.CHANGE, str(override.input_line).lstrip("+")
        _check_value(override, base, configs)
    return tuple(str(override.input_line) for override in parsed)


def single_values(text: str, configs: Path = CONFIGS) -> list[str]:
    """The overrides of one value each that an override with several stands for; of an interval, its two ends.

    Raises ConfigError for one that Hydra cannot read.
    """
    override = _parse(text, sweep=True, configs=configs)
    if not override.is_sweep_override():
        return [text]
    key, sweep = override.get_key_element(), override.value()
    if isinstance(sweep, IntervalSweep):
        return [f"{key}={end}" for end in (sweep.start, sweep.end)]
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        options = group_options(key.lstrip("+"), configs)
        raise ConfigError(f"{text} stands for no value{'; there are ' if options else ''}{', '.join(options)}.")
    return values


def hydra_settings(name: str, overrides: Sequence[str], configs: Path = CONFIGS) -> DictConfig:
    """The node `hydra` of a composed config: its mode, sweeper and launcher.

    `overrides` may hold some of Hydra's own, such as `hydra/launcher=joblib` and `hydra.sweep.dir=sweeps`. Raises
    ConfigError, with the nearest right name, for a mistake in one of them.
    """
    own = [override for override in overrides if is_hydra_override(override)]
    lines = [*checked_overrides(name, [override for override in overrides if override not in own], configs)]
    for override in own:
        parsed = _parse(override)
        key = parsed.key_or_group
        if key.startswith("hydra/"):
            if not group_options(key, configs):
                groups = [f"hydra/{group}" for group in _loader(configs).list_groups("hydra")]
                raise ConfigError(f"There is no config group {key!r}; {nearest(key, groups)}")
            _check_group(parsed, configs)
            lines.append(override)
    node = _composed(configs, name, tuple(lines), with_hydra=True)
    for override in own:
        parsed = _parse(override)
        if not parsed.key_or_group.startswith("hydra/"):
            _check_value(parsed, node, configs)
            lines.append(str(parsed.input_line))
    return _composed(configs, name, tuple(lines), with_hydra=True).hydra


def is_hydra_override(text: str) -> bool:
    """Whether an override is one of Hydra's own settings."""
    return text.lstrip("+~").startswith(("hydra.", "hydra/"))


def use_config_folders(first: Sequence[str], last: Sequence[str]) -> None:
    """Search further folders for configs from now on: `first` before the command's own configs, `last` after them.

    A folder is a path, `file://PATH` or `pkg://package.module`. Raises ConfigError for one that does not exist.
    """
    for folder in (*first, *last):
        path, package = Path(folder.removeprefix("file://")), folder.removeprefix("pkg://")
        if package != folder and not _is_package(package):
            raise ConfigError(f"There is no package {package} to search for configs.")
        if package == folder and not path.is_dir():
            raise ConfigError(f"There is no folder {path} to search for configs.")
    folders = ([_source(folder) for folder in first], [_source(folder) for folder in last])
    if folders == config_folders():
        return
    _ConfigFolders.first, _ConfigFolders.last = folders
    Plugins.instance().register(_ConfigFolders)
    _composed.cache_clear()
    _loader.cache_clear()


def _is_package(name: str) -> bool:
    try:
        return find_spec(name.replace("/", ".")) is not None
    except (ImportError, ValueError):  # of a package that it would be in
        return False


def config_folders() -> tuple[list[str], list[str]]:
    """The folders that `use_config_folders` set."""
    return _ConfigFolders.first, _ConfigFolders.last


class _ConfigFolders(SearchPathPlugin):
    first: ClassVar[list[str]] = []
    last: ClassVar[list[str]] = []

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(self.first):
            search_path.prepend("--config-path", folder)
        for folder in self.last:
            search_path.append("--config-dir", folder)


def _source(folder: str) -> str:
    return folder if folder.startswith("pkg://") else f"file://{Path(folder.removeprefix('file://')).resolve()}"


def override_values(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A copy of a stored config with some of its values replaced.

    Raises ConfigError as `compose` does, and for an override of a whole group.
    """
    config = config.copy()
    for text in overrides:
        override = _parse(text)
        if group_options(override.key_or_group):
            raise ConfigError(f"{text} would replace what a stored config was made of; only single keys can change.")
        _check_value(override, config)
        OmegaConf.update(config, override.key_or_group, override.value(), force_add=override.is_add())
    return config


def make(node: DictConfig, **more: object) -> Any:
    """Instantiate a config's `_target_`; its lists and nodes are passed as plain lists and dicts.

    A ResonanceError that the target raises passes through. Raises ConfigError, with the key, for a target that cannot
    be imported, a setting that it does not have, and a setting that it refuses.
    """
    key = str(node._get_full_key(None))  # pyright: ignore[reportPrivateUsage]  # omegaconf has no public accessor
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
    """Raise ConfigError for a setting that the node's `_target_`, or an inner node's, does not have."""
    for name, child in node.items():
        if isinstance(child, DictConfig):
            _check_settings(child, f"{key}.{name}")
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


def nearest(word: str, known: Sequence[str]) -> str:
    """The end of a sentence that suggests the known name nearest to `word`, or lists all known names."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}."


def group_options(group: str, configs: Path = CONFIGS) -> list[str]:
    """The choices in a config group; empty where there is no such group."""
    return _loader(configs).get_group_options(group)


def group_defaults(name: str, configs: Path = CONFIGS) -> dict[str, str | None]:
    """The config groups that `<name>.yaml` composes, in its order, with the default choice of each."""
    choices = _composed(configs, name, (), with_hydra=True).hydra.runtime.choices
    return {group: choices[group] for group in reversed(list(choices)) if not group.startswith("hydra/")}


@contextmanager
def loader_of(configs: Path = CONFIGS) -> Generator[None]:
    """Within it, `GlobalHydra.instance()` searches `configs` and the folders of `use_config_folders`."""
    present = GlobalHydra.instance()
    outer = present.hydra  # a sweep's, within one of its jobs
    present.clear()
    try:
        with initialize_config_dir(config_dir=str(configs), version_base="1.3"):
            yield
    finally:
        present.hydra = outer


def _parse(text: str, *, sweep: bool = False, configs: Path = CONFIGS) -> Override:
    key, _, value = text.partition("=")
    quoted = value.replace("'", "\\'")
    for form in (text, f"{key}='{quoted}'"):  # a value outside Hydra's grammar is a plain string
        try:
            # The plural passes the loader on, in which glob() looks for choices.
            override = OverridesParser.create(_loader(configs) if sweep else None).parse_overrides([form])[0]
        except HydraException:
            continue
        if override.is_sweep_override() and not sweep:
            raise ConfigError(
                f"{text} stands for several values, which --multirun runs one by one; text that holds a comma is "
                f"quoted twice, for the shell and for Hydra: \"{key}='a, b'\"."
            )
        return override
    raise ConfigError(f"{text!r} is not an override; write key=value.")


def _check_group(override: Override, configs: Path) -> None:
    group, choice = override.key_or_group, override.value()
    options = group_options(group, configs)
    for name in choice if isinstance(choice, list) else [choice]:
        if isinstance(name, str | int | float) and str(name) not in options:
            raise ConfigError(f"There is no {group} {str(name)!r}; {nearest(str(name), options)}")


def _check_value(override: Override, base: DictConfig, configs: Path = CONFIGS) -> None:
    if override.is_add() or override.is_delete():
        return
    key = override.key_or_group
    known = _keys(OmegaConf.to_container(base, resolve=False))
    if key not in known:
        groups = [group for group in _loader(configs).list_groups("") if group != "hydra"]
        node = key.rpartition(".")[0]
        if node in known and not OmegaConf.is_dict(value := OmegaConf.select(base, node)):
            raise ConfigError(
                f"There is no key {key!r}, as {node} is {'null' if value is None else str(value).lower()}."
            )
        owners = _choices_with(key, configs)
        hint = f"{' and '.join(owners)} would have it." if owners else nearest(key, [*known, *groups])
        raise ConfigError(f"There is no key {key!r}; {hint}")
    default, value = OmegaConf.select(base, key, throw_on_missing=False), override.value()
    if default is None or value is None:
        return
    for kind, description in ((bool, "true or false"), (int, "a whole number"), (float, "a number")):
        if isinstance(default, kind):
            fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
            if not fits or (isinstance(value, bool) and kind is not bool):
                raise ConfigError(f"{key} must be {description}, not {str(value)!r}.")
            return


def _choices_with(key: str, configs: Path) -> list[str]:
    """The choices of the group that a key is in which have such a key, as `group=choice`."""
    group, choices = key.partition(".")[0], list[str]()
    for choice in group_options(group, configs):
        # Errors: a file in a folder of the user's own. Warnings: it was not made to be composed alone.
        with suppress(ConfigError), catch_warnings():
            simplefilter("ignore")
            node = OmegaConf.to_container(_composed(configs, f"{group}/{choice}", ()), resolve=False)
            choices += [f"{group}={choice}"] if key in _keys(node) else []
    return choices


def _keys(node: object, prefix: str = "") -> list[str]:
    """Every key of a config in dotted form, inner nodes included."""
    if not isinstance(node, dict):
        return []
    return [name for key, child in node.items() for name in (f"{prefix}{key}", *_keys(child, f"{prefix}{key}."))]


@cache  # composing takes a good part of a second
def _composed(configs: Path, name: str, overrides: tuple[str, ...], *, with_hydra: bool = False) -> DictConfig:
    if not (configs / f"{name}.yaml").is_file():
        raise ConfigError(f"There is no {configs / name}.yaml.")
    try:
        with loader_of(configs):
            return hydra_compose(name, list(overrides), return_hydra_config=with_hydra)
    except (ConfigCompositionException, OmegaConfBaseException) as error:
        sentence = _first_sentence(error)
        if missing := re.match(r"In '(.+)': Could not find '(.+)/(.+)'", sentence):
            place, group, choice = missing.groups()
            options = group_options(group, configs)
            sentence = f"In {place}: there is no {group} {choice!r}; {nearest(choice, options)}"
        elif refused := re.match(r"Could not override '((.+)\..+)'", str(error)):  # checked, so another override is why
            sentence = f"{refused[1]} cannot be set beside another value of {refused[2]}."
        raise ConfigError(sentence) from error


@cache
def _loader(configs: Path) -> ConfigLoader:
    with loader_of(configs):
        return GlobalHydra.instance().config_loader()


def _first_sentence(error: Exception) -> str:
    """The first line of the innermost cause's message."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines()
    return lines[0].strip() if lines else type(cause).__name__
