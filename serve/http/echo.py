"""Raw completions as JSON: each prompt that is echoed is written once, on a thread beside the event loop.

Prompts with their log-probabilities are long: written for each of a prompt's answers, and on the event loop, they would
keep every other client waiting.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from resonance.tokenizer import Tokenizer
from serve.http.answers import CompletionLogprobs
from serve.http.logprobs import TokenLists
from serve.inference.wire import Score

COLUMNS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
SLICE = 128  # tokens that are written in one go; other threads wait for so long
# One thread: several would take turns with each other before the event loop had its own.
_WRITER = ThreadPoolExecutor(1, thread_name_prefix="write-completions")

Columns = tuple[str, ...]  # OpenAI's parallel lists as JSON, without their brackets
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt as its answers begin with it; `offset` is where in the text the first answered token stands."""

    text: str = ""
    columns: Columns = ("",) * len(COLUMNS)
    offset: int = 0


async def beside_the_loop(write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Write something long on the writer's thread."""
    return await asyncio.get_running_loop().run_in_executor(_WRITER, lambda: write(*args, **kwargs))


def write_echo(ids: Sequence[int], scores: Sequence[Score], tokenizer: Tokenizer, *, logprobs: bool) -> Echo:
    """A prompt's text and, with `logprobs`, its tokens; nothing comes before the first, so it has no probability."""
    text = tokenizer.decode(ids)
    if not logprobs:
        return Echo(text)
    known = [None, *scores]
    parts: list[Columns] = []
    offset = 0
    for start in range(0, len(ids), SLICE):
        lists = TokenLists(tokenizer, offset)
        lists.add_prompt(ids[start : start + SLICE], known[start : start + SLICE])
        parts.append(columns(lists.lists))
        offset = lists.offset
    return Echo(text, joined(parts), offset)


def columns(lists: CompletionLogprobs) -> Columns:
    """Parallel lists as JSON."""
    return tuple(json.dumps(getattr(lists, name), ensure_ascii=False)[1:-1] for name in COLUMNS)


def joined(parts: Iterable[Columns]) -> Columns:
    """Lists one after another as one."""
    return tuple(", ".join(filter(None, column)) for column in zip(*parts, strict=True))


def choice_json(index: int, text: str, columns: Columns | None, finish_reason: str | None) -> str:
    """One choice, whole or a piece of it."""
    logprobs = "null"
    if columns is not None:
        logprobs = "{" + ", ".join(f'"{name}": [{column}]' for name, column in zip(COLUMNS, columns, strict=True)) + "}"
    return (
        f'{{"index": {index}, "text": {json.dumps(text, ensure_ascii=False)}, "logprobs": {logprobs}, '
        f'"finish_reason": {json.dumps(finish_reason)}}}'
    )


def with_choices(head: Mapping[str, object], choices: Iterable[str], more: Mapping[str, object]) -> str:
    """An object of which the choices are written already."""
    rest = json.dumps(more, ensure_ascii=False)[1:]
    return f'{json.dumps(head, ensure_ascii=False)[:-1]}, "choices": [{", ".join(choices)}]{", " if more else ""}{rest}'
