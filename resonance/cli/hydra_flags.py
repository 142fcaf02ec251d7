"""Hydra's own flags, such as `--cfg job`, `--info` and `--config-dir DIR`, in `resonance <command>`'s arguments."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import cast

from resonance.errors import ResonanceError

# What follows each flag: its choices, () for any value, or None for nothing.
FLAGS: dict[str, tuple[str, ...] | None] = {
    "--multirun": None,
    "--cfg": ("job", "hydra", "all"),
    "--resolve": None,
    "--package": (),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--config-dir": (),
    "--config-path": (),
}
SHORT = {
    "-m": "--multirun",
    "-c": "--cfg",
    "-p": "--package",
    "-i": "--info",
    "-cd": "--config-dir",
    "-cp": "--config-path",
}
SEARCH_PATH = "hydra.searchpath="


@dataclass(slots=True)
class HydraFlags:
    """Hydra's flags of one command line."""

    multirun: bool = False
    cfg: str | None = None  # the part of the config to print
    resolve: bool = False  # whether it is printed with its interpolations resolved
    package: str | None = None  # the only node of it to print
    info: str | None = None  # what to print about how the config is composed
    first: list[str] = field(default_factory=list[str])  # folders searched before the command's own configs
    last: list[str] = field(default_factory=list[str])  # folders searched after them

    @property
    def prints(self) -> bool:
        """Whether the command prints its config and does not run."""
        return self.cfg is not None or self.info is not None


def take_flags(arguments: list[str]) -> tuple[HydraFlags, list[str]]:
    """Split a command's arguments into Hydra's flags and the rest. Raises ResonanceError for a flag's wrong value."""
    flags, rest = HydraFlags(), list[str]()
    words = iter(arguments)
    waiting = list[str]()  # a word that `--info` looked at and left
    while (word := waiting.pop() if waiting else next(words, None)) is not None:
        name, has_value, value = word.partition("=")
        flag = SHORT.get(name, name)
        if word.startswith(SEARCH_PATH):
            flags.last += _search_path(word)
        elif flag not in FLAGS:
            rest.append(word)
        elif (choices := FLAGS[flag]) is None:
            if has_value:
                raise ResonanceError(f"{flag} takes no value, not {value!r}.")
            setattr(flags, flag.removeprefix("--"), True)
        elif flag == "--info" and not has_value:
            following = next(words, None)
            if following is not None and get_close_matches(following, choices):
                _set(flags, flag, following, choices)
            else:
                flags.info = "all"
                waiting += [] if following is None else [following]
        else:
            _set(flags, flag, value if has_value else _value(flag, words), choices)
    if (flags.resolve or flags.package) and flags.cfg is None:
        raise ResonanceError("--resolve and --package say how --cfg prints; add --cfg job.")
    return flags, rest


def _set(flags: HydraFlags, flag: str, value: str, choices: tuple[str, ...]) -> None:
    if choices and value not in choices:
        from resonance.hydra_config import nearest

        raise ResonanceError(f"There is no {flag} {value!r}; {nearest(value, choices)}")
    if flag == "--config-dir":
        flags.last.append(value)
    elif flag == "--config-path":
        flags.first.append(value)
    else:
        setattr(flags, flag.removeprefix("--"), value)


def _value(flag: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None:
        raise ResonanceError(f"{flag} needs a value after it.")
    return value


def _search_path(text: str) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        value: object = OverridesParser.create().parse_override(text).value()
    except HydraException:
        value = None
    if not isinstance(value, list):
        raise ResonanceError(f"hydra.searchpath is a list, such as [file://FOLDER,pkg://a.module]; not {text}.")
    return [str(folder) for folder in cast(list[object], value)]
