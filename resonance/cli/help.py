"""Help texts, from the YAML files of the commands' configs; no command is imported for them.

A command's file is `configs/<command>.yaml` in the package of its entry point, or else among Resonance's own configs.
The comment at its head is the command's documentation, and the first line of it the summary. A line
`Usage: resonance <command> ACTION NAME [--flag] [key=value ...]` at its very top makes `action` and `name` positional:
bare words on the command line are their values, and `--flag` sets `flag=true`.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import yaml

from resonance.paths import CONFIGS

OVERVIEW = """Usage: resonance <command> [key=value ...]

GPT-2 from scratch: OpenAI's weights in, instruction-tuned checkpoints out, scored and served.

{commands}

`resonance <command> --help` lists a command's keys. debug=true shows tracebacks.
Hydra's flags: --cfg job prints a command's config, --info how it is composed; --config-dir DIR adds a folder of
configs of your own."""


def overview(commands: Mapping[str, EntryPoint]) -> str:
    """The help of `resonance` itself: every command with its summary."""
    width = max(map(len, commands))
    lines = "\n".join(f"  {name:<{width}}  {next(iter(_head(command)[1]), '')}" for name, command in commands.items())
    return OVERVIEW.format(commands=lines)


def command_help(command: EntryPoint) -> str:
    """A command's documentation, the groups that its config composes, and its keys with their defaults."""
    usage, head = _head(command)
    path = config_file(command)
    if path is None:
        return "\n".join([usage, "", *head])
    from resonance.hydra_config import group_defaults, group_options

    groups = [
        f"  {group} = {default or 'null'}    one of: {', '.join(group_options(group, path.parent))}"
        for group, default in group_defaults(path.stem, path.parent).items()
    ]
    sections = [usage, "", *head, *(["", "Groups (group=choice):", *groups] if groups else [])]
    return "\n".join([*sections, "", "Keys and their defaults:", *[f"  {line}" for line in _keys(path)]])


def positional_keys(command: EntryPoint) -> Sequence[str]:
    """The keys that bare words on the command line are values of, in order."""
    return [word.lower() for word in re.findall(r" ([A-Z_]+)\b", _head(command)[0])]


def flag_keys(command: EntryPoint) -> Sequence[str]:
    """The keys that a flag on the command line sets to true."""
    return re.findall(r"\[--([a-z_]+)\]", _head(command)[0])


def config_file(command: EntryPoint) -> Path | None:
    """The YAML file of a command's config; None where it has none."""
    folders = [CONFIGS]
    with suppress(ValueError):  # an entry point that names no module; it fails when its command runs
        package = find_spec(re.split("[.:]", command.value)[0])
        folders[:0] = [Path(folder) / "configs" for folder in (package and package.submodule_search_locations) or []]
    paths = [folder / f"{command.name}.yaml" for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def _head(command: EntryPoint) -> tuple[str, list[str]]:
    # The usage line and the documentation: the comment at the config's head, or else the package's own summary.
    path = config_file(command)
    if path is None:
        head = [str(command.dist.metadata["Summary"]) if command.dist else ""]
    else:
        head = [re.sub("^# ?", "", line) for line in _split(path)[0].splitlines()]
    if head and head[0].startswith("Usage: "):
        return head[0], head[2:]
    return f"Usage: resonance {command.name} [key=value ...]", head


def _keys(path: Path) -> list[str]:
    # The lines below the head, with their comments, which OmegaConf drops; the defaults list is left out.
    text = _split(path)[1]
    document = yaml.compose(text)
    nodes = document.value if isinstance(document, yaml.MappingNode) else []
    hidden = [(key.start_mark.line, value.end_mark.line) for key, value in nodes if key.value in ("defaults", "hydra")]
    return [
        line
        for number, line in enumerate(text.splitlines())
        if line.strip() and not any(start <= number < end for start, end in hidden)
    ]


def _split(path: Path) -> tuple[str, str]:
    text = path.read_text(encoding="utf-8")
    head = re.match("(#.*\n)*", text)
    end = head.end() if head else 0
    return text[:end], text[end:]
