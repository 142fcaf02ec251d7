"""Makes the built-in data: holds combinations out, draws tasks, joins some into longer conversations."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from data import DataError
from data.basics.family import Family, Task
from data.basics.registry import FAMILIES, MIX_IN
from data.example import Example, Splits
from resonance.chat_template import Message

SYSTEM_PROMPTS = (
    "You are Resonance, a helpful assistant.",
    "Answer briefly.",
    "You are a helpful assistant.",
    "Give short and exact answers.",
)

CHAIN = "chain"  # the family of conversations that join several tasks


@dataclass(frozen=True, slots=True)
class BasicsSettings:
    """How much data to make, and of what.

    Sizes count conversations. `families` names those to include (None: all but
    those for mixing in). `chain_share` of the training
    conversations join 2 to `max_turns` tasks; `system_share` of all conversations open with a system message.
    """

    train_size: int = 40_000
    validation_size: int = 300
    test_size: int = 1_000
    seed: int = 0
    families: tuple[str, ...] | None = None
    chain_share: float = 0.25
    max_turns: int = 6
    system_share: float = 0.1

    def __post_init__(self) -> None:
        there = FAMILIES | MIX_IN
        unknown = sorted(set(self.families or ()) - set(there))
        if unknown:
            raise DataError(f"There is no family {unknown[0]!r} in basics; there are: {', '.join(there)}.")
        if self.families is not None and not self.families:
            raise DataError("`families` of basics is empty; leave it null for all of them.")
        for name in ("chain_share", "system_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"`{name}` of basics is {getattr(self, name)}; it is a share between 0 and 1.")
        if self.max_turns < 2:
            raise DataError(f"`max_turns` of basics is {self.max_turns}; a chain has at least 2 turns.")


Pair: TypeAlias = tuple[int, int, int]  # indices: task of the family, content of the task, wording of the task


def generate(settings: BasicsSettings) -> Splits:
    """The three splits, a pure function of the settings.

    Every content and every wording of the held-out splits occurs in the training draw, their combination does
    not. Held-out conversations are single tasks, spread evenly over the families.

    Raises:
        DataError: a split is larger than the combinations that can be held out.
    """
    names = settings.families or tuple(FAMILIES)
    families = [(FAMILIES | MIX_IN)[name] for name in names]
    drawn: dict[str, Iterator[tuple[Message, ...]]] = {}
    validation: list[Example] = []
    test: list[Example] = []
    for i, family in enumerate(families):
        rng = random.Random(f"{settings.seed}/{family.name}")
        wanted_test = _portion(settings.test_size, len(families), i)
        wanted_validation = _portion(settings.validation_size, len(families), i)
        kept, held_out = hold_out(family, wanted_test + wanted_validation, rng)
        for j, (task, content, wording) in enumerate(held_out):
            messages = family.tasks[task].make(content, wording, rng)
            split = test if j < wanted_test else validation
            split.append(Example(_with_system(messages, settings.system_share, rng), family.name))
        drawn[family.name] = _draw(family, kept, rng)
    rng = random.Random(f"{settings.seed}/train")
    train = [_conversation(families, drawn, settings, rng) for _ in range(settings.train_size)]
    return Splits(train, validation, test)


def _portion(total: int, parts: int, index: int) -> int:
    """The size of one part when a total is spread evenly over parts."""
    return total * (index + 1) // parts - total * index // parts


def hold_out(family: Family, count: int, rng: random.Random) -> tuple[list[list[Pair]], list[Pair]]:
    """Pairs that stay in training, by task, and `count` pairs that don't.

    The held-out pairs are spread over the tasks in proportion to their pairs. A content is asked for a second
    wording only when every content has given one; each keeps at least two.
    """
    queues = [_candidates(index, task, rng) for index, task in enumerate(family.tasks)]
    available = sum(len(queue) for queue in queues)
    if count > available:
        raise DataError(
            f"The test and validation splits of basics want {count} held-out examples of {family.name!r}, which "
            f"has {available}; ask for smaller splits or more families."
        )
    held_out: list[Pair] = []
    seen = 0
    for queue in queues:
        held_out += queue[: count * (seen + len(queue)) // available - count * seen // available]
        seen += len(queue)
    rng.shuffle(held_out)
    gone = set(held_out)
    kept = [
        [
            (index, content, wording)
            for content in range(len(task.contents))
            for wording in range(len(task.wordings))
            if (index, content, wording) not in gone
        ]
        for index, task in enumerate(family.tasks)
    ]
    return kept, held_out


def _candidates(index: int, task: Task, rng: random.Random) -> list[Pair]:
    """Pairs of a task in the order in which they may be held out; two wordings of each content never are.

    Each round takes one wording of every content. Contents start at different wordings, so that no wording
    loses more than its share.
    """
    contents = list(range(len(task.contents)))
    rng.shuffle(contents)
    n = len(task.wordings)
    return [(index, content, (place + turn) % n) for turn in range(n - 2) for place, content in enumerate(contents)]


def _draw(family: Family, kept: Sequence[list[Pair]], rng: random.Random) -> Iterator[tuple[Message, ...]]:
    """Tasks of a family without end: every kept pair once in random order, then again in a new one.

    The tasks of the family take turns in proportion to the square root of their pairs, so that a small task
    is not drowned by a large one.
    """
    queues = [_endless(pairs, rng) for pairs in kept]
    weights = [len(pairs) ** 0.5 for pairs in kept]
    while True:
        task, content, wording = next(rng.choices(queues, weights)[0])
        yield family.tasks[task].make(content, wording, rng)


def _endless(pairs: list[Pair], rng: random.Random) -> Iterator[Pair]:
    order = list(pairs)
    while True:
        rng.shuffle(order)
        yield from order


def _conversation(
    families: Sequence[Family],
    drawn: dict[str, Iterator[tuple[Message, ...]]],
    settings: BasicsSettings,
    rng: random.Random,
) -> Example:
    """One task, or a chain of them."""
    is_chain = rng.random() < settings.chain_share
    chosen = rng.choices(
        families,
        [family.weight for family in families],
        k=rng.randint(2, settings.max_turns) if is_chain else 1,
    )
    messages = tuple(message for family in chosen for message in next(drawn[family.name]))
    return Example(
        _with_system(messages, settings.system_share, rng),
        CHAIN if is_chain else chosen[0].name,
    )


def _with_system(messages: tuple[Message, ...], share: float, rng: random.Random) -> tuple[Message, ...]:
    if rng.random() >= share:
        return messages
    return (Message("system", rng.choice(SYSTEM_PROMPTS)), *messages)
