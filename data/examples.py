"""The one value that all instruction data becomes: a conversation. Knows no file format and no tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resonance.chat import Message


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to learn from or to be scored on.

    Training supervises every assistant message. Scoring asks with all but the last message and expects the
    last one, which is the assistant's. `family` groups examples in reports; None where the data has no groups.
    """

    messages: tuple[Message, ...]
    family: str | None = None

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All messages before the last."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Splits:
    """The three parts of a data set; `validation` and `test` may be empty."""

    train: Sequence[Example]
    validation: Sequence[Example]
    test: Sequence[Example]


def fingerprint(parts: Iterable[Sequence[Example]]) -> str:
    """SHA-256 (hex) over the examples' canonical JSON, parts in order; the same in every process and run."""
    digest = hashlib.sha256()
    for part in parts:
        for example in part:
            row = [example.family, [[m.role, m.content, m.context] for m in example.messages]]
            digest.update(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        digest.update(b"\n")
    return digest.hexdigest()
