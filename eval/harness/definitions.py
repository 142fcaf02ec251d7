"""Definitions of the harness's tasks: where they stand, and local files in place of their data on the Hub.

A definition in `tasks/` here includes the harness's own, so that prompts, metrics and version are the harness's, and
says which files of `harness_data` hold its splits. Tasks of the harness without one get theirs by the same rule.
"""

import io
import json
import logging
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import yaml

from eval import EvalError

OWN = Path(__file__).parent / "tasks"
EXTRA = "pip install 'resonance[lm-eval]' installs it"

_GROUP = re.compile(r"^group:", re.MULTILINE)
_NAME = re.compile(r"^(?:task|group):\s*[\"']?([\w.-]+)[\"']?\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Definition:
    """A task of the harness: its name, and the YAML file that defines it."""

    name: str
    path: Path


def harness_version() -> str:
    """The installed harness's version. Raises EvalError when there is none, or one that this code does not know."""
    try:
        installed = version("lm_eval")
    except PackageNotFoundError:
        raise EvalError(f"harness= needs lm-evaluation-harness, which is not installed; {EXTRA}.") from None
    if not re.match(r"0\.4\.", installed):
        raise EvalError(f"harness= needs lm-evaluation-harness 0.4, not {installed}; {EXTRA}.")
    return installed


def find(names: Sequence[str], include_path: Path | None = None) -> list[Definition]:
    """The definitions of these tasks; a group or tag (`mmlu`) stands for its tasks.

    Tasks in `include_path` take precedence over the harness's. Raises EvalError for an unknown name or folder, and
    when the harness is not installed.
    """
    harness_version()
    own = _tasks_in(include_path) if include_path is not None else {}
    found: dict[str, Definition] = {}
    for name in names:
        path = own.get(name) or _harness_file(name)
        members = {name: path} if path else _members(name, include_path, [*own])
        found |= {member: Definition(member, file) for member, file in members.items()}
    return [*found.values()]


def load(definition: Definition, data: Path | None, *, few_shot: bool) -> Any:
    """The harness's task, with its data. Returns an `lm_eval.api.task.Task`.

    With a `data` folder, a task of the harness reads `<name>.jsonl` there, and with `few_shot` the examples to show
    from `<name>.train.jsonl`. Raises EvalError when the data cannot be had, or names the first malformed line.
    """
    overrides = _local_data(definition, data, few_shot=few_shot) if data is not None else {}
    with TemporaryDirectory(prefix="resonance-harness-") as folder, quiet():
        file = Path(folder) / f"{definition.name}.yaml"
        file.write_text(yaml.safe_dump({"include": str(definition.path), **overrides}), encoding="utf-8")
        from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]  # extra lm-eval

        try:
            loaded = TaskManager(include_defaults=False).load([str(file)])
        except Exception as error:  # a task's definition may call anything: the Hub, its own functions
            raise EvalError(_why_not(definition.name, data, overrides, error)) from error
    return next(iter(loaded["tasks"].values()))


@contextmanager
def quiet() -> Generator[None]:
    """Without the harness's progress bars and log lines, which would run into ours."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "huggingface_hub", "httpx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _why_not(name: str, data: Path | None, overrides: Mapping[str, object], error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if isinstance(error, ImportError):
        return f"the harness's {name} needs a package that is not installed ({reason})."
    if data is not None and overrides:
        return f"the harness cannot read {data / name}.jsonl as its {name} ({reason})."
    return (
        f"the data of the harness's {name} cannot be had here ({reason}); with harness_data=FOLDER it is read from "
        f"FOLDER/{name}.jsonl."
    )


# Local data


def _local_data(definition: Definition, data: Path, *, few_shot: bool) -> dict[str, object]:
    """What to change in a definition so that it reads its splits from files; {} for a task of the user's own."""
    name = definition.name
    own = OWN / f"{name}.yaml"
    if own.is_file():
        changes: dict[str, Any] = yaml.safe_load(own.read_text(encoding="utf-8"))
        del changes["include"]
    elif definition.path.is_relative_to(_harness_folder()):
        changes = _by_rule(name, _merged(definition.path))
    else:
        return {}
    fields, files = changes.pop("fields", []), cast("dict[str, str]", changes["dataset_kwargs"]["data_files"])
    if not data.is_dir():
        raise EvalError(f"harness_data={data} is no folder.")
    training, main = data / f"{name}.train.jsonl", data / f"{name}.jsonl"
    if not main.is_file():
        raise EvalError(f"harness_data={data} has no {main.name}, the items of the harness's {name}.")
    if few_shot and not training.is_file():
        raise EvalError(f"examples to show before the questions of {name} are missing: there is no {training}.")
    kept = {split: data / file for split, file in files.items() if (data / file).is_file()}
    for path in kept.values():
        _check_lines(path, fields)
    changes |= {"dataset_path": "json", "dataset_name": None}
    changes["dataset_kwargs"] = {"data_files": {split: str(path.resolve()) for split, path in kept.items()}}
    if not training.is_file():
        changes["training_split"] = None
    return changes


def _by_rule(name: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """As the files in `tasks/` do, for a task that has none."""
    split = definition.get("test_split") or definition.get("validation_split") or "test"
    files = {split: f"{name}.jsonl", "train": f"{name}.train.jsonl"}
    changes: dict[str, Any] = {"dataset_kwargs": {"data_files": files}, "training_split": "train"}
    if definition.get("test_split"):
        changes["validation_split"] = None
    if definition.get("fewshot_split"):
        changes["fewshot_split"] = "train"
    return changes


def _check_lines(path: Path, fields: Sequence[str]) -> None:
    """Raise EvalError for the first line that is no JSON object with these fields, or when there is none."""
    number = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line)
                missing = [field for field in fields if not isinstance(row, dict) or field not in row]
                if missing or not isinstance(row, dict):
                    what = f"has no {missing[0]!r}" if isinstance(row, dict) else "is no JSON object"
                    raise EvalError(f"line {number} of {path} {what}.")
    except ValueError as error:
        raise EvalError(f"line {number or 1} of {path} is no JSON ({error}).") from error
    if not number:
        raise EvalError(f"{path} is empty.")


# Finding


def _harness_folder() -> Path:
    package = find_spec("lm_eval")  # without importing it
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / "tasks"


def _harness_file(name: str) -> Path | None:
    """The harness's file that defines a task of this name; None for groups, tags and unknown names.

    The harness itself parses all its 14,000 files to find one, which takes a minute or two.
    """
    own = OWN / f"{name}.yaml"
    if own.is_file():
        return _harness_folder() / str(yaml.safe_load(own.read_text(encoding="utf-8"))["include"])
    line = re.compile(rf"^task:\s*[\"']?{re.escape(name)}[\"']?\s*(?:#.*)?$", re.MULTILINE)
    return next((path for path, text in _harness_files() if line.search(text) and not _GROUP.search(text)), None)


def _harness_files() -> Iterator[tuple[Path, str]]:
    for path in sorted(_harness_folder().rglob("*.yaml")):
        yield path, path.read_text(encoding="utf-8", errors="replace")


def _unknown(name: str, known: Sequence[str]) -> EvalError:
    listed = [match[1] for _, text in _harness_files() for match in _NAME.finditer(text)]
    close = get_close_matches(name, [*known, *listed], n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}?" if close else "`lm_eval ls tasks` lists them."
    return EvalError(f"The harness has no task {name!r}; {hint}")


def _tasks_in(folder: Path) -> dict[str, Path]:
    """A user's tasks by name. Raises EvalError when the folder does not exist or holds none."""
    if not folder.is_dir():
        raise EvalError(f"harness_include_path={folder} is no folder.")
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]  # extra lm-eval

    with quiet():
        index = TaskManager(include_path=str(folder), include_defaults=False).task_index
    tasks = {name: Path(entry.yaml_path).resolve() for name, entry in index.items() if entry.yaml_path is not None}
    if not tasks:
        raise EvalError(f"harness_include_path={folder} holds no YAML file that defines a task.")
    return tasks


def _members(name: str, include_path: Path | None, known: Sequence[str]) -> dict[str, Path]:
    """The tasks of a group or tag, by the harness's own index. Raises EvalError for an unknown name."""
    listed = re.compile(rf"^(?:group:|tag:|\s*-)\s*[\"']?{re.escape(name)}[\"']?\s*(?:#.*)?$", re.MULTILINE)
    if not any(listed.search(text) for _, text in _harness_files()):
        raise _unknown(name, known)
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]  # extra lm-eval

    with quiet():
        index = TaskManager(include_path=None if include_path is None else str(include_path)).task_index
    if name not in index:
        raise _unknown(name, known)
    tasks: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        entry = index[waiting.pop()]
        if entry.kind.name in ("TASK", "PY_TASK"):
            tasks |= {entry.name: Path(entry.yaml_path)} if entry.yaml_path is not None else {}
        elif entry.kind.name == "TAG":
            waiting += sorted(entry.tags, reverse=True)
        else:
            listed = (entry.cfg or {}).get("task", [])
            names = [each.get("task", each.get("group")) if isinstance(each, dict) else each for each in listed]
            waiting += [each for each in reversed(names) if each in index]
    return tasks


def _merged(path: Path) -> dict[str, Any]:
    """A definition's plain values, those of its includes below."""
    values: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    included = values.pop("include", [])
    merged: dict[str, Any] = {}
    for each in included if isinstance(included, list) else [included]:
        merged |= _merged(path.parent / str(each))
    return merged | values


class _PlainLoader(yaml.SafeLoader):
    """YAML in which `!function` is a text."""


_PlainLoader.add_constructor("!function", lambda loader, node: loader.construct_scalar(cast("yaml.ScalarNode", node)))
