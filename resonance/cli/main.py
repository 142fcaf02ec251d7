"""`resonance <command> [key=value ...]`: finds the installed commands and runs one of them.

A command is an entry point of the group `resonance.commands`, which names a function `main(overrides: list[str])`.
Its documentation is the YAML file of its config, see `resonance.cli.help`. A package of somebody else's adds a command
in its pyproject.toml:

    [project.entry-points."resonance.commands"]
    greet = "greetings.cli:main"
"""

import signal
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from types import FrameType

from resonance.cli.help import command_help, config_file, flag_keys, overview, positional_keys
from resonance.cli.hydra_flags import take_flags
from resonance.errors import ResonanceError
from resonance.paths import PROJECT_ROOT

GROUP = "resonance.commands"


class BrokenCommand(ResonanceError):
    """A command whose entry point cannot be imported."""

    exit_code = 1


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 bad input (one line on standard error), 1 a fault, 130 Ctrl-C."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run one command; return its exit code."""
    debug = "debug=true" in argv
    arguments = [argument for argument in argv if argument not in ("debug=true", "debug=false")]
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt as interrupt:  # its argument is the command's message about what was kept
        print(f"\n{interrupt.args[0] if interrupt.args else 'Interrupted.'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        return 0
    except ResonanceError as error:
        if debug:
            raise
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        print(f"Unexpected {type(error).__name__}: {error} (debug=true shows where)", file=sys.stderr)
        return 1


def find_commands() -> dict[str, metadata.EntryPoint]:
    """The installed commands by name, in alphabetical order; Resonance's own take precedence over other packages'."""
    points = metadata.entry_points(group=GROUP)
    own_last = sorted(points, key=lambda point: point.dist is not None and point.dist.name == "resonance")
    return dict(sorted({point.name: point for point in own_last}.items()))


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in ("-V", "--version"):
        print(f"resonance {metadata.version('resonance')}")
        return 0
    commands = find_commands()
    if not commands:
        raise ResonanceError("No command is installed; install the package, with `pip install -e .` in a checkout.")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(commands))
        return 0
    name, *settings = arguments
    if name not in commands:
        from resonance.hydra_config import nearest

        raise ResonanceError(f"There is no command {name!r}; {nearest(name, list(commands))}")
    if any(setting in ("-h", "--help") for setting in settings):
        print(command_help(commands[name]))
        return 0
    flags, settings = take_flags(settings)
    overrides = _overrides(settings, positional_keys(commands[name]), flag_keys(commands[name]))
    config = config_file(commands[name])
    if flags.first or flags.last:
        from resonance.hydra_config import use_config_folders

        use_config_folders(flags.first, flags.last)
    if flags.prints and config is not None:
        from resonance.cli.show_config import show_config

        show_config(flags, config.stem, overrides, config.parent)
        return 0
    _load_environment()
    command = _load(commands[name])
    if flags.multirun:
        multirun = getattr(sys.modules[command.__module__], "multirun", None)
        if multirun is None:
            raise ResonanceError(f"resonance {name} has no --multirun; resonance train has.")
        multirun(overrides)
        return 0
    own = [setting for setting in overrides if setting.lstrip("+~").startswith(("hydra.", "hydra/"))]
    if own:
        raise ResonanceError(f"{own[0]} is a setting of Hydra's for several runs; add --multirun, which train has.")
    command(overrides)
    return 0


def _load(command: metadata.EntryPoint) -> Callable[[list[str]], None]:
    # Some libraries swallow a KeyboardInterrupt while they are imported, or let it end the process without our exit
    # code: a Ctrl-C is recorded, and raised when the import is over. A second one does not wait.
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        return command.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        package = f"{command.dist.name} {command.dist.version}" if command.dist else "an unknown package"
        reason = f"{type(error).__name__}: {error}"
        raise BrokenCommand(f"{package} does not provide its command {command.name!r} ({reason}).") from error
    finally:
        signal.signal(signal.SIGINT, previous)
        if interrupted:
            raise KeyboardInterrupt


def _overrides(settings: list[str], positional: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Hydra overrides: `key=value` as it is, a bare word as the value of the next positional key, a flag as true."""
    overrides: list[str] = []
    keys = iter(positional)
    for setting in settings:
        if setting.removeprefix("--") in flags and setting.startswith("--"):
            overrides.append(f"{setting.removeprefix('--')}=true")
            continue
        if setting.startswith("-"):
            raise ResonanceError(
                f"There is no option {setting!r}; settings are written key=value, and --help lists the keys."
            )
        if "=" in setting or setting.startswith("~"):
            overrides.append(setting)
            continue
        key = next(keys, None)
        if key is None:
            raise ResonanceError(f"{setting!r} is not a setting; write key=value, and --help lists the keys.")
        overrides.append(f"{key}={setting}")
    return overrides


def _load_environment() -> None:
    from dotenv import load_dotenv

    for folder in (Path.cwd(), PROJECT_ROOT):
        load_dotenv(folder / ".env", override=False)
