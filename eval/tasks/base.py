"""What every task is and gives back, and how an example is fitted into a model's context window."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

from data.example import Example
from eval.evaluated_model import Subject
from eval.statistics import Measure
from resonance.chat_template import ContextOverflow, Fitted, Message

T = TypeVar("T")
Advance = Callable[[int], None]  # told how many more examples are done


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer for people to look at; `correct` is None where there is no expected answer."""

    question: str
    answer: str
    expected: str | None = None
    family: str | None = None
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a task found out about one subject.

    `measures` are the task's scores by name; `groups` more of them below a heading (`by_family`); `notes`
    are sentences that a reader of the scores has to know.
    """

    measures: Mapping[str, Measure] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Measure]] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = ()


class Task(Protocol):
    """A task: `run` is called once for each subject, with the same examples in the same order.

    To add one, write such a class, and `configs/task/<name>.yaml` with its `_target_` and its numbers.
    """

    needs_examples: ClassVar[bool]  # False: the test split is not loaded for this task's sake

    def size(self, examples: Sequence[Example]) -> int:
        """How many steps `run` will report to `advance`."""
        ...

    def run(self, subject: Subject, examples: Sequence[Example], advance: Advance) -> Result:
        """Put the subject to the test. Observations are in the order of the examples."""
        ...


def fit(example: Example, subject: Subject) -> Fitted | None:
    """As much of what stands before the example's answer as leaves room for that answer, as a prompt.

    The oldest turns go first, as they do in a chat. None when not even the newest question fits.
    """
    template = subject.template
    prompt = template.render(example.prompt, add_generation_prompt=True)
    needed = len(template.render(example.messages).input_ids) - len(prompt.input_ids)
    try:
        budget, history = subject.context_length - needed, subject.window.history_length - needed
        return template.fit(example.prompt, budget=budget, history_budget=history)
    except ContextOverflow:
        return None


def question(messages: Sequence[Message]) -> str:
    """A conversation as people read it, one line a turn; the system prompt is left out."""
    lines = [
        message.content if message.context is None else f"{message.content}\n{message.context}"
        for message in messages
        if message.role != "system"
    ]
    return "\n→ ".join(lines)


def in_chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, `size` at a time; the last chunk may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
