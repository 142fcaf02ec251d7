"""The entry point of `resonance explain`: the training examples that pulled most towards an answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from eval import EvalError
from eval.explain.influence import Explanation, explain
from resonance.atomic_files import write_text_atomically
from resonance.chat_template import Message
from resonance.checkpoint import METADATA_FILE, Checkpoint
from resonance.hydra_config import ConfigError, compose

_PIPED_WIDTH = 160  # columns, where the output is no terminal
_SHOWN = 160  # characters of a prompt or an answer in the table


@dataclass(frozen=True, slots=True)
class Request:
    """The answer to explain: its conversation, the answer last; the options."""

    messages: tuple[Message, ...]
    count: int
    projection: int
    json: Path | bool


def main(overrides: list[str]) -> None:
    """Explain one answer; `configs/explain.yaml` has the keys. Raises ConfigError, EvalError and DataError."""
    config = compose("explain", overrides)
    count, projection = _whole(config, "count", 1, 1000), _whole(config, "projection", 8, 256)
    if config.json is False:
        raise ConfigError("json is the name of a file (json=true prints); leave it out for none.")
    root = None if config.root is None else Path(str(config.root)).expanduser()
    checkpoint = Checkpoint.find(str(config.checkpoint), root)
    if not (checkpoint.folder / METADATA_FILE).is_file():
        raise EvalError(f"{checkpoint.name} is not a run of ours, and does not say what it was trained on.")
    messages = _messages(config)
    console = Console(stderr=True)
    examples = None if config.examples is None else _whole(config, "examples", 1, 10_000_000)
    columns = (TextColumn("gradients of the examples"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("")
        found = explain(
            checkpoint,
            messages,
            count=count,
            side=projection,
            examples=examples,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    text = json.dumps(as_json(found, messages), indent=2, ensure_ascii=False)
    if config.json is True:
        print(text)
        return
    _print(found, messages)
    if config.json is not None:
        path = Path(str(config.json)).expanduser()
        try:
            write_text_atomically(path, text + "\n")
        except OSError as error:
            raise EvalError(f"{path} cannot be written ({error.strerror or error}); name another file.") from error


def as_json(found: Explanation, messages: tuple[Message, ...]) -> dict[str, Any]:
    """An explanation as plain values."""
    return {
        "checkpoint": found.checkpoint,
        "checkpoints_used": [found.checkpoint],
        "parameters": found.record.parameters,
        "training_examples": found.record.training_examples,
        "examples_compared": found.record.examples,
        "prompt": messages[-2].content,
        "answer": messages[-1].content,
        "influences": [{"rank": rank, **one} for rank, one in enumerate(found.influences, 1)],
    }


def _print(found: Explanation, messages: tuple[Message, ...]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    console.print(Text(f"{_short(messages[-2].content)}  →  {_short(messages[-1].content)}", style="bold"))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    for heading in ("kind", "prompt", "answer", "where from"):
        table.add_column(heading, overflow="fold")
    for rank, one in enumerate(found.influences, 1):
        answer = Text(_short(one["answer"]))
        if "rejected" in one:
            answer.append(f"  instead of  {_short(one['rejected'])}", style="dim")
        kind = one["kind"] + (f" ×{one['times']}" if one["times"] > 1 else "")
        table.add_row(str(rank), f"{one['score']:.3f}", kind, Text(_short(one["prompt"])), answer, _where_from(one))
    console.print(table)
    record = found.record
    drawn = "" if record.examples == record.training_examples else (
        f", drawn at random from {record.training_examples:,}: what taught the answer may be among the others"
    )  # fmt: skip
    console.print(
        f"Cosine of gradients of {record.parameters} at the weights of {found.checkpoint} alone, among "
        f"{record.examples:,} training examples{drawn}.",
        style="dim", highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _where_from(one: dict[str, Any]) -> Text:
    if one["provenance"]:
        return Text("  ".join(f"{name} {value}" for name, value in one["provenance"].items() if name != "owner_id"))
    parts = [str(one["family"])] if "family" in one else []
    parts += [] if one["row"] is None else [f"row {one['row']:,}"]
    return Text(", ".join(parts) or f"example {one['index'] + 1:,}")


def _short(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _whole(config: DictConfig, key: str, least: int, most: int) -> int:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{key} must be a whole number from {least} to {most}, not {value!r}.")
    return value


def _messages(config: DictConfig) -> tuple[Message, ...]:
    """The conversation up to the answer, from the command line or from the server's database."""
    if config.conversation is not None:
        if config.prompt is not None or config.answer is not None or config.system is not None:
            raise ConfigError("conversation= names a stored answer; leave out prompt=, answer= and system=.")
        return _stored(config)
    if config.message is not None:
        raise ConfigError(f"message={config.message} needs conversation=ID as well.")
    if config.prompt is None or config.answer is None:
        raise ConfigError('Say which answer: prompt="..." answer="...", or conversation=ID [message=ID].')
    system = () if config.system is None else (Message("system", str(config.system)),)
    return (*system, Message("user", str(config.prompt)), Message("assistant", str(config.answer)))


def _stored(config: DictConfig) -> tuple[Message, ...]:
    # Its own process: the database belongs to the serving room, which this one does not import.
    words = ["feedback", "thread", f"conversation={_quoted(config.conversation)}"]
    for key, value in (("message", config.message), ("owner", config.owner), ("store.url", config.store.url)):
        words += [] if value is None else [f"{key}={_quoted(value)}"]
    command = [sys.executable, "-m", "resonance.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EvalError(" ".join(done.stderr.split()).removeprefix("Error: "))
    return tuple(Message(one["role"], one["content"]) for one in json.loads(done.stdout))


def _quoted(value: object) -> str:
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
