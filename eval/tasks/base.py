"""The interface of tasks, their result, and how an example fits into a model's context window."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.statistics import Metric
from resonance.chat_template import ContextOverflow, Fitted, Message

T = TypeVar("T")
Advance = Callable[[int], None]  # reports a number of finished steps


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer for the report; `correct` is None without an expected answer."""

    question: str
    answer: str
    expected: str | None = None
    family: str | None = None
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A task's result for one model.

    `metrics` are the task's metrics by name, `groups` further ones by group (`by_family`). `notes` are sentences that
    readers of the scores need.
    """

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Metric]] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = ()


class Task(Protocol):
    """A task; `run` is called once per model, with the same examples in the same order.

    To add a task, write such a class, and `configs/task/<name>.yaml` with its `_target_` and settings.
    """

    needs_examples: ClassVar[bool]  # False: the task does not use the test split

    def size(self, examples: Sequence[Example]) -> int:
        """The number of steps that `run` reports to `advance`."""
        ...

    def run(self, model: EvaluatedModel, examples: Sequence[Example], advance: Advance) -> Result:
        """Evaluate the model. Observations are in the order of the examples."""
        ...


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


def in_chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, in chunks of `size`; the last one may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
