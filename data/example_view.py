"""Shows an example as training sees it: which tokens are supervised, special, or dropped to fit the window.

Knows nothing of terminals and pages, which print the spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from data.example import Example
from data.tokenize import tokenize
from resonance.chat_template import ChatTemplate

# Training reads `context` tokens, predicts `supervised` ones as well, and never sees `dropped` ones.
Use: TypeAlias = Literal["context", "supervised", "dropped"]


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of equal use, decoded. A `special` span is one special token or end token."""

    text: str
    use: Use
    special: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class ExampleView:
    """An example as spans. `skipped` is the reason why training skips it, or None.

    `tokens` counts the tokens that training reads, as its reports do (not the last one, which it only predicts),
    `supervised` those that it predicts, and `dropped` those that it does neither with. `rejected` is the worse
    answer of a pair, which only preference training reads; None for other examples.
    """

    spans: Sequence[Span]
    tokens: int
    supervised: int
    dropped: int
    has_end: bool
    skipped: str | None = None
    rejected: Span | None = None


def view_example(example: Example, template: ChatTemplate, context_length: int) -> ExampleView:
    """Mark the use of each token of an example that must fit into `context_length` tokens.

    Raises DataError when the template cannot represent the example.
    """
    tokenized = tokenize([example], template, context_length)
    rendered = template.render(example.messages)
    end = max((i + 1 for i, supervised in enumerate(rendered.loss_mask) if supervised), default=len(rendered.input_ids))
    ids, mask = rendered.input_ids[:end], rendered.loss_mask[:end]  # without what follows the last answer
    kept = _kept(example, template, mask, len(tokenized.input_ids)) if len(tokenized) else frozenset[int]()
    uses: list[Use] = []
    for position, supervised in enumerate(mask):
        uses.append("dropped" if position not in kept else "supervised" if supervised else "context")
    supervised_ids = [token for token, use in zip(ids, uses, strict=True) if use == "supervised"]
    return ExampleView(
        spans=_spans(ids, uses, template),
        tokens=len(tokenized.input_ids),
        supervised=len(supervised_ids),
        dropped=len(ids) - len(kept),
        has_end=supervised_ids[-1:] == [template.end_id],
        skipped=next(iter(tokenized.report.skipped), None),
        rejected=None if example.rejected is None else _plain(example.rejected, template),
    )


def _plain(text: str, template: ChatTemplate) -> Span:
    return Span(text, "context", False, len(template.tokenizer.encode(text)))


def _kept(example: Example, template: ChatTemplate, mask: Sequence[bool], seen: int) -> frozenset[int]:
    """The positions of the `seen` tokens that training reads, and of the one after them if it is predicted."""
    messages = example.messages
    opening = 1 if messages[0].role == "system" else 0
    later_turns = [i for i, message in enumerate(messages) if message.role == "user" and i > opening]
    head, *starts = (len(template.render(messages[:i]).input_ids) for i in (opening, opening, *later_turns))
    # A text that fits after its oldest turns are dropped is read up to its last answer; else its last turn is cut.
    start = next((start for start in starts if head + len(mask) - 1 - start == seen), starts[-1])
    kept = [*range(head), *range(start, len(mask))]
    return frozenset(kept[:seen] if not mask[kept[seen]] else kept[: seen + 1])


def _spans(ids: Sequence[int], uses: Sequence[Use], template: ChatTemplate) -> list[Span]:
    special = {*template.tokenizer.special_tokens.values(), template.end_id}
    boundaries = [
        position
        for position in range(1, len(ids))
        if uses[position] != uses[position - 1] or {ids[position], ids[position - 1]} & special
    ]
    return [
        Span(template.tokenizer.decode(ids[start:end]), uses[start], ids[start] in special, end - start)
        for start, end in pairwise([0, *boundaries, len(ids)])
        if end > start
    ]


def visible(text: str) -> str:
    """The text with control and invisible characters as escapes, which a terminal would obey or hide."""
    return "".join(char if char in "\n\t" or char.isprintable() else f"\\u{{{ord(char):x}}}" for char in text)
