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
from serve.api.schemas.responses import CompletionLogprobs
from serve.generation.logprobs import TokenLists
from serve.workers.messages import Score

COLUMNS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
SLICE = 128  # tokens that are written in one go; other threads wait for so long
# One thread: several would take turns with each other before the event loop had its own.
_WRITER = ThreadPoolExecutor(1, thread_name_prefix="write-completions")

Columns = tuple[bytes, ...]  # OpenAI's parallel lists as JSON, without their brackets
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt as its answers begin with it, in JSON; `offset` is where in the text the first answered token stands."""

    text: bytes = b""  # without its quotes
    columns: Columns = (b"",) * len(COLUMNS)
    offset: int = 0


async def beside_the_loop(write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Write something long on the writer's thread."""
    return await asyncio.get_running_loop().run_in_executor(_WRITER, lambda: write(*args, **kwargs))


def write_echo(ids: Sequence[int], scores: Sequence[Score], tokenizer: Tokenizer, *, logprobs: bool) -> Echo:
    """A prompt's text and, with `logprobs`, its tokens; nothing comes before the first, so it has no probability."""
    text = _json(tokenizer.decode(ids))[1:-1]
    if not logprobs:
        return Echo(text)
    known = [None, *scores]
    slices: list[Columns] = []
    offset = 0
    for start in range(0, len(ids), SLICE):
        lists = TokenLists(tokenizer, offset)
        lists.add_prompt(ids[start : start + SLICE], known[start : start + SLICE])
        slices.append(_columns(lists.lists))
        offset = lists.offset
    return Echo(text, tuple(b", ".join(column) for column in zip(*slices, strict=True)), offset)


def choice(
    index: int, echo: Echo, text: str, logprobs: CompletionLogprobs | None, finish_reason: str | None
) -> list[bytes]:
    """One choice, whole or a piece of it, in parts, so that what is echoed is never copied but into the answer."""
    parts = [f'{{"index": {index}, "text": "'.encode(), echo.text, _json(text)[1:-1], b'", "logprobs": ']
    if logprobs is None:
        parts.append(b"null")
    else:
        for name, echoed, own in zip(COLUMNS, echo.columns, _columns(logprobs), strict=True):
            before = "{" if name == COLUMNS[0] else ", "
            parts += [f'{before}"{name}": ['.encode(), echoed, b", " if echoed and own else b"", own, b"]"]
        parts.append(b"}")
    return [*parts, b', "finish_reason": ', _json(finish_reason), b"}"]


def with_choices(head: Mapping[str, object], choices: Iterable[list[bytes]], more: Mapping[str, object]) -> list[bytes]:
    """An object whose choices are written already, in parts."""
    parts = [_json(head)[:-1], b', "choices": [']
    for number, one in enumerate(choices):
        parts += [b", ", *one] if number else one
    return [*parts, b"], " if more else b"]", _json(more)[1:]]


def _columns(lists: CompletionLogprobs) -> Columns:
    return tuple(_json(getattr(lists, name))[1:-1] for name in COLUMNS)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
