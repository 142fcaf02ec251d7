"""`resonance <command> [key=value ...]`: a table of commands, each imported when it is called."""

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module, metadata
from pathlib import Path
from types import FrameType

from resonance.errors import ResonanceError
from resonance.paths import PROJECT_ROOT

Main = Callable[[list[str]], None]


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command's `main(overrides)` lives, and which keys bare words on its line stand for, in order."""

    module: str
    summary: str
    positional: tuple[str, ...] = ()


COMMANDS = {
    "train": Command("train.run", "fine-tune a model and write a checkpoint"),
    "eval": Command("eval.run", "score checkpoints and compare them"),
    "serve": Command("serve.run", "put a checkpoint on line: API and chat page"),
    "keys": Command(
        "serve.keys",
        "add, rotate, revoke or list a server's API keys; claim conversations",
        positional=("action", "name"),
    ),
    "top": Command("serve.top", "watch a running server: requests, speed, latencies"),
    "chat": Command("resonance.cli.chat", "talk with a checkpoint in the terminal"),
    "checkpoints": Command("resonance.cli.checkpoints", "list what has been trained"),
    "weights": Command("resonance.cli.weights", "download GPT-2's weights", positional=("name",)),
    "export": Command("resonance.cli.export", "write a checkpoint in another program's layout"),
    "index": Command("resonance.retrieval.index", "index a folder of documents for search", positional=("path",)),
    "bench": Command("resonance.bench.run", "measure speed and memory, beside other programs"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 bad input (one line on standard error), 1 a fault, 130 Ctrl-C."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run one command; return its exit code."""
    debug = "debug=true" in argv
    arguments = [word for word in argv if not word.startswith("debug=")]
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt as stop:  # a command may say what it keeps
        print(f"\n{stop.args[0] if stop.args else 'Interrupted.'}", file=sys.stderr)
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


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"resonance {metadata.version('resonance')}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        close = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COMMANDS)}."
        raise ResonanceError(f"There is no command {name!r}; {hint}")
    if any(word in ("-h", "--help") for word in rest):
        print(_help(name))
        return 0
    overrides = _overrides(rest, COMMANDS[name])
    _load_environment()
    _load(COMMANDS[name].module)(overrides)
    return 0


def _load(module: str) -> Main:
    """A command's `main`. Libraries swallow a Ctrl-C that reaches them while they are imported; it is kept here."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, ask)
    try:
        main: Main = import_module(module).main
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt
    return main


def _overrides(words: list[str], command: Command) -> list[str]:
    """Settings as Hydra takes them: `key=value` stays, and a bare word is the next positional key's value."""
    overrides: list[str] = []
    positional = iter(command.positional)
    for word in words:
        if word.startswith("-"):
            raise ResonanceError(
                f"There is no option {word!r}; settings are written key=value, and --help lists the keys."
            )
        if "=" in word or word.startswith("~"):
            overrides.append(word)
            continue
        key = next(positional, None)
        if key is None:
            raise ResonanceError(f"{word!r} is not a setting; write key=value, and --help lists the keys.")
        overrides.append(f"{key}={word}")
    return overrides


def _load_environment() -> None:
    from dotenv import load_dotenv

    for folder in (Path.cwd(), PROJECT_ROOT):
        load_dotenv(folder / ".env", override=False)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: resonance <command> [key=value ...]",
            "",
            "GPT-2 from scratch: OpenAI's weights in, instruction-tuned checkpoints out, scored and served.",
            "",
            *lines,
            "",
            "`resonance <command> --help` lists a command's keys. debug=true shows tracebacks.",
        ]
    )


def _help(name: str) -> str:
    """What the head of `configs/<name>.yaml` says, the groups it composes, and its keys with their defaults."""
    text = (PROJECT_ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    head = 0
    while head < len(lines) and lines[head].startswith("#"):
        head += 1
    about = [line.removeprefix("#").removeprefix(" ") for line in lines[:head] if "@package" not in line]
    body, groups, in_defaults = [], [], False
    for line in lines[head:]:
        if line.startswith("defaults:"):
            in_defaults = True
        elif in_defaults and (line.startswith(("  ", "- ")) or not line.strip()):
            groups += _group_line(line)
        else:
            in_defaults = False
            body.append(line)
    bare = [key.upper() for key in COMMANDS[name].positional]
    usage = " ".join(["Usage: resonance", name, *bare, "[key=value ...]"])
    sections = [usage, "", *about]
    if groups:
        sections += ["", "Groups (group=choice):", *groups]
    return "\n".join([*sections, "", "Keys and their defaults:", *[f"  {line}" for line in body if line.strip()]])


def _group_line(line: str) -> list[str]:
    """One entry of a defaults list as `group  default  (its choices)`; entries that are no groups say nothing."""
    entry = line.strip().removeprefix("- ").removeprefix("optional ").removeprefix("override ")
    if ":" not in entry:
        return []
    group, default = (part.strip() for part in entry.split("#")[0].split(":", 1))
    choices = sorted(path.stem for path in (PROJECT_ROOT / "configs" / group.lstrip("/")).glob("*.yaml"))
    return [f"  {group} = {default}    one of: {', '.join(choices)}"]
