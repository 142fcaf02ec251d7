"""Log-probabilities in OpenAI's two forms: a list of tokens for chats, parallel lists for text completions.

An echoed prompt with log-probabilities is long JSON. It is written once for all answers of the prompt, on a thread,
because writing it on the event loop would block every other client.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from resonance.tokenizer import Tokenizer
from serve.api.schemas.responses import Alternative, CompletionLogprobs, TokenLogprob
from serve.workers.messages import Score, Token

MIN_LOGPROB = -9999.0  # JSON has no minus infinity
COLUMNS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
SLICE = 128  # tokens that are written at a time; other threads wait for that long
# One thread: several would compete with the event loop for the interpreter's lock.
_WRITER = ThreadPoolExecutor(1, thread_name_prefix="write-logprobs")

Columns = tuple[bytes, ...]  # OpenAI's parallel lists as JSON, without their brackets
T = TypeVar("T")


async def write_on_thread(write: Callable[[], T]) -> T:
    """Write long JSON on the writer's thread."""
    return await asyncio.get_running_loop().run_in_executor(_WRITER, write)


def token_logprob(token: Token, tokenizer: Tokenizer) -> TokenLogprob:
    """Return one token's log-probabilities in the form of chats."""
    assert token.token_id is not None and token.logprob is not None
    chosen = _alternative(token.token_id, token.logprob, tokenizer)
    others = [_alternative(token_id, logprob, tokenizer) for token_id, logprob in token.top_logprobs or ()]
    return TokenLogprob(token=chosen.token, logprob=chosen.logprob, bytes=chosen.bytes, top_logprobs=others)


class ParallelLists:
    """Collects a text completion's parallel lists; `offset` is the next token's position in the text."""

    def __init__(self, tokenizer: Tokenizer, offset: int = 0) -> None:
        self.offset = offset
        self.lists = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])
        self._tokenizer = tokenizer

    def add_prompt(self, ids: Sequence[int], scores: Sequence[Score | None]) -> None:
        """Add tokens of a prompt with their scores; None for a token without one."""
        for token_id, score in zip(ids, scores, strict=True):
            self._add(token_id, *(score or (None, None)))

    def add(self, token: Token) -> None:
        """Add one generated token, the end token included: clients expect an entry for each token."""
        if token.token_id is not None:
            self._add(token.token_id, token.logprob, token.top_logprobs)

    def columns(self) -> Columns:
        """Return the lists as JSON."""
        return tuple(to_json(getattr(self.lists, name))[1:-1] for name in COLUMNS)

    def _add(self, token_id: int, logprob: float | None, top: Sequence[tuple[int, float]] | None) -> None:
        text = _text(token_id, self._tokenizer)
        best = None
        if logprob is not None:
            best = {_text(other, self._tokenizer): max(value, MIN_LOGPROB) for other, value in top or ()}
        self.lists.tokens.append(text)
        self.lists.token_logprobs.append(None if logprob is None else max(logprob, MIN_LOGPROB))
        self.lists.top_logprobs.append(best)
        self.lists.text_offset.append(self.offset)
        self.offset += len(text)


@dataclass(frozen=True, slots=True)
class Echo:
    """An echoed prompt in JSON; `offset` is the position of the first generated token in the text."""

    text: bytes = b""  # without its quotes
    columns: Columns = (b"",) * len(COLUMNS)
    offset: int = 0


def write_echo(ids: Sequence[int], scores: Sequence[Score], tokenizer: Tokenizer, *, logprobs: bool) -> Echo:
    """Write a prompt's text and, with `logprobs`, its tokens; the first token has no log-probability."""
    text = to_json(tokenizer.decode(ids))[1:-1]
    if not logprobs:
        return Echo(text)
    all_scores = [None, *scores]
    slices: list[Columns] = []
    offset = 0
    for start in range(0, len(ids), SLICE):
        lists = ParallelLists(tokenizer, offset)
        lists.add_prompt(ids[start : start + SLICE], all_scores[start : start + SLICE])
        slices.append(lists.columns())
        offset = lists.offset
    return Echo(text, tuple(b", ".join(column) for column in zip(*slices, strict=True)), offset)


def to_json(value: object) -> bytes:
    """Return a value as JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode()


def _alternative(token_id: int, logprob: float, tokenizer: Tokenizer) -> Alternative:
    data = tokenizer.token_bytes(token_id)
    return Alternative(token=data.decode("utf-8", "replace"), logprob=max(logprob, MIN_LOGPROB), bytes=list(data))


def _text(token_id: int, tokenizer: Tokenizer) -> str:
    return tokenizer.token_bytes(token_id).decode("utf-8", "replace")
