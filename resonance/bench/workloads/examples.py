"""The texts that `what=train` and `what=dense` train on, the same for all programs: as text and as tokens."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resonance.chat_template import ChatTemplate, Rendered

INSTRUCTION, OUTPUT = (8, 64), (16, 128)  # words of train's examples, least and most
ROW_LENGTH = {"train": 512, "dense": 512}  # tokens; train's hold several examples, dense's one each
COUNT = {"train": 512, "dense": 64}


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens, and which of them are learnt."""

    input_ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the products of a training step depend on."""

    supervised: float  # the share of the tokens that are learnt
    attended: float  # the positions that a token attends to, on average


def write(folder: Path, what: str) -> None:
    """Write a workload's examples beside the checkpoint in `folder`."""
    from resonance.bench.workloads.synthetic_text import single_token_words
    from resonance.checkpoint import Checkpoint

    template, rng = Checkpoint.open(folder).template(), random.Random(0)
    words = list(single_token_words())
    make = _dense if what == "dense" else _instructions
    rows = list(islice(make(rng, words, template), COUNT[what]))
    text_file(folder, what).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    rendered = [_render(template, row) for row in rows]
    everything = what == "dense"
    tokens = [[row.input_ids, [everything or bool(learnt) for learnt in row.loss_mask]] for row in rendered]
    _token_file(folder, what).write_text(json.dumps(tokens), encoding="utf-8")


def read(folder: Path, what: str) -> list[Example]:
    """The examples as tokens."""
    return [Example(*row) for row in json.loads(_token_file(folder, what).read_text(encoding="utf-8"))]


def text_file(folder: Path, what: str) -> Path:
    """The examples as JSON lines of instruction and output."""
    return folder.with_name(f"{folder.name}-{what}.jsonl")


def statistics(examples: Sequence[Example]) -> Statistics:
    """Means over all tokens."""
    lengths = [len(example.input_ids) for example in examples]
    supervised = sum(sum(example.loss_mask) for example in examples)
    return Statistics(supervised / sum(lengths), sum(n * (n + 1) / 2 for n in lengths) / sum(lengths))


def _instructions(rng: random.Random, words: list[str], template: "ChatTemplate") -> Iterator[dict[str, str]]:
    while True:
        instruction, output = (_text(rng.choices(words, k=rng.randint(*lengths))) for lengths in (INSTRUCTION, OUTPUT))
        yield {"instruction": instruction, "output": output}


def _dense(rng: random.Random, words: list[str], template: "ChatTemplate") -> Iterator[dict[str, str]]:
    # Each example fills its row. Words within a text are one token each, but its first may be several.
    while True:
        question, answer = rng.choices(words, k=32), rng.choices(words, k=ROW_LENGTH["dense"])
        row = {"instruction": _text(question), "output": _text(answer)}
        while surplus := len(_render(template, row).input_ids) - ROW_LENGTH["dense"]:
            answer = answer[:-surplus] if surplus > 0 else answer + rng.choices(words, k=-surplus)
            row["output"] = _text(answer)
        yield row


def _text(words: Sequence[str]) -> str:
    return "".join(words).strip()


def _render(template: "ChatTemplate", row: dict[str, str]) -> "Rendered":
    from resonance.chat_template import Message

    return template.render([Message("user", row["instruction"]), Message("assistant", row["output"])])


def _token_file(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}-{what}-tokens.json")
