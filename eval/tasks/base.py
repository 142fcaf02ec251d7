"""The interface of tasks: items, records, metric specifications; and how an example fits into a context window."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from resonance.chat_template import ContextOverflow, Fitted, Message

T = TypeVar("T")
ContentT = TypeVar("ContentT")

DOES_NOT_FIT = "does_not_fit"  # in a record's details: the item is longer than the context window


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """How the observations of a metric become a score.

    - `proportion`: each is 0 or 1 over 1; Wilson's interval, McNemar's test.
    - `mean`: each is a number over 1.
    - `ratio`: sum of numerators over sum of denominators, such as bits per byte.
    - `perplexity`: exp of that ratio; numerators in nats, denominators in tokens.

    `share`: the score is in [0, 1] and displayed in percent. `by_group`: there is also one score per group. `measured`:
    a measurement of the machine, such as a speed, which comes out differently each time; differences between models are
    not tested. A dot in a metric's name nests it in `eval.json`: `retrieval.mrr` is `{"retrieval": {"mrr": ...}}`.
    """

    kind: Literal["proportion", "mean", "ratio", "perplexity"]
    share: bool = False
    higher_is_better: bool = True
    by_group: bool = False
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Item(Generic[ContentT]):
    """One item of a task, the same for every model.

    `id` (see `item_id`) pairs the item across models and runs. `text` is the question and the expected answer, for the
    contamination check. `group` is the family; `cluster` names what several items share (a document, a conversation):
    their errors are correlated, and intervals take that into account.
    """

    id: str
    content: ContentT
    text: str
    group: str | None = None
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """The outcome of one item, one line of `eval/<task>.jsonl`; scores are computed from records alone.

    `observations` has a numerator and a denominator per metric; a metric that was not observed is absent. `correct` is
    None without an expected answer. `prompt_sha256` is `prompt_hash` of the prompt. `details` is what else the task
    keeps, in JSON types.
    """

    item: str
    observations: Mapping[str, tuple[float, float]]
    group: str | None = None
    cluster: str | None = None
    question: str = ""
    answer: str | None = None
    expected: str | None = None
    correct: bool | None = None
    prompt_sha256: str | None = None
    details: Mapping[str, object] = field(default_factory=dict[str, object])


class Task(Protocol[ContentT]):
    """A task. To add one, write such a class, and `configs/task/<name>.yaml` with its `_target_` and settings."""

    version: ClassVar[int]  # raised whenever the scores of the same answers could change
    needs_examples: ClassVar[bool]  # False: the task does not use the test split

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """The metrics by name, in the order of reports."""
        ...

    def items(self, examples: Sequence[Example]) -> Sequence[Item[ContentT]]:
        """The items, without a model: cheap and deterministic. Raises EvalError when there is nothing to ask."""
        ...

    def run(self, model: EvaluatedModel, items: Sequence[Item[ContentT]]) -> Iterator[Record]:
        """Yield one record per item, in order, as soon as they are known.

        The items may be a part of all items: the others' records are known from an interrupted evaluation.
        """
        ...

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """Sentences that readers of the scores need."""
        ...


@runtime_checkable
class WithProvenance(Protocol):
    """A task whose scores depend on something outside, such as a judge, which stands in their provenance."""

    def provenance(self, records: Sequence[Record]) -> Mapping[str, object]:
        """Further entries of the task's provenance in `eval.json`, in JSON types."""
        ...


def item_id(*parts: object) -> str:
    """A stable id of an item: 16 hex digits of SHA-256 over what defines it, given as JSON values."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prompt_hash(ids: Sequence[int]) -> str:
    """SHA-256 of a prompt's token ids as little-endian int32."""
    return hashlib.sha256(np.asarray(ids, "<i4").tobytes()).hexdigest()


def example_items(examples: Sequence[Example]) -> list[Item[Example]]:
    """One item per example; equal examples are numbered, so that ids are unique."""
    seen: dict[str, int] = {}
    items: list[Item[Example]] = []
    for example in examples:
        turns = [[message.role, message.content, message.context] for message in example.messages]
        same = seen[key] = seen.get(key := item_id(turns), -1) + 1
        items.append(Item(item_id(turns, same) if same else key, example, question(example.messages), example.family))
    return items


def fit(example: Example, model: EvaluatedModel) -> Fitted | None:
    """The example's prompt, shortened to leave room for its answer.

    Drops the oldest turns first, as in a chat. None if even the newest question does not fit.
    """
    template = model.template
    prompt = template.render(example.prompt, add_generation_prompt=True)
    needed = len(template.render(example.messages).input_ids) - len(prompt.input_ids)
    try:
        budget, history = model.context_length - needed, model.window.history_length - needed
        return template.fit(example.prompt, budget=budget, history_budget=history)
    except ContextOverflow:
        return None


def question(messages: Sequence[Message]) -> str:
    """A conversation as text, one line per turn, without the system prompt."""
    lines = [
        message.content if message.context is None else f"{message.content}\n{message.context}"
        for message in messages
        if message.role != "system"
    ]
    return "\n→ ".join(lines)


def overflow_note(records: Sequence[Record], what: str, consequence: str) -> tuple[str, ...]:
    """A note about the items that do not fit into the context window, if any."""
    missing = sum(bool(record.details.get(DOES_NOT_FIT)) for record in records)
    return (f"{missing} of {len(records)} {what} do not fit into the context and {consequence}.",) if missing else ()


def in_chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, in chunks of `size`; the last one may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
