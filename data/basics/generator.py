"""Generates the built-in data: holds out combinations, samples tasks, chains some into longer conversations."""

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
    """The size and composition of the data.

    Sizes count conversations. `families` names those to include (None: all but those for mixing in). `chain_share` of
    the training conversations chain 2 to `max_turns` tasks; `system_share` of all conversations start with a system
    message.
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
        known = FAMILIES | MIX_IN
        unknown = sorted(set(self.families or ()) - set(known))
        if unknown:
            raise DataError(f"There is no family {unknown[0]!r} in basics; there are: {', '.join(known)}.")
        if self.families is not None and not self.families:
            raise DataError("`families` of basics is empty; leave it null for all of them.")
        for name in ("chain_share", "system_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"`{name}` of basics is {getattr(self, name)}; it is a share between 0 and 1.")
        if self.max_turns < 2:
            raise DataError(f"`max_turns` of basics is {self.max_turns}; a chain has at least 2 turns.")


Pair: TypeAlias = tuple[int, int, int]  # indices: task of the family, content of the task, wording of the task


def generate(settings: BasicsSettings) -> Splits:
    """Generate the three splits, a pure function of the settings.

    Training contains all contents and all wordings of the held-out splits, but not their combinations. Held-out
    conversations are single tasks, evenly distributed over the families.

    Raises:
        DataError: a split is larger than the number of combinations that can be held out.
    """
    names = settings.families or tuple(FAMILIES)
    families = [(FAMILIES | MIX_IN)[name] for name in names]
    streams: dict[str, Iterator[tuple[Message, ...]]] = {}
    validation: list[Example] = []
    test: list[Example] = []
    for i, family in enumerate(families):
        rng = random.Random(f"{settings.seed}/{family.name}")
        test_count = _portion(settings.test_size, len(families), i)
        validation_count = _portion(settings.validation_size, len(families), i)
        kept, held_out = hold_out(family, test_count + validation_count, rng)
        for j, (task, content, wording) in enumerate(held_out):
            messages = family.tasks[task].make(content, wording, rng)
            split = test if j < test_count else validation
            split.append(Example(_with_system(messages, settings.system_share, rng), family.name))
        streams[family.name] = _sample_endlessly(family, kept, rng)
    rng = random.Random(f"{settings.seed}/train")
    train = [_conversation(families, streams, settings, rng) for _ in range(settings.train_size)]
    return Splits(train, validation, test)


def _portion(total: int, parts: int, index: int) -> int:
    """The size of one part of a total that is split evenly."""
    return total * (index + 1) // parts - total * index // parts


def hold_out(family: Family, count: int, rng: random.Random) -> tuple[list[list[Pair]], list[Pair]]:
    """Split a family's pairs into those for training, by task, and `count` held-out ones.

    The held-out pairs are distributed over the tasks in proportion to the tasks' pairs. A content gives up a second
    wording only after all contents gave up one, and keeps at least two.
    """
    queues = [_candidates(index, task, rng) for index, task in enumerate(family.tasks)]
    available = sum(len(queue) for queue in queues)
    if count > available:
        raise DataError(
            f"The test and validation splits of basics want {count} held-out examples of {family.name!r}, which "
            f"has {available}; ask for smaller splits or more families."
        )
    held_out: list[Pair] = []
    total = 0
    for queue in queues:
        held_out += queue[: count * (total + len(queue)) // available - count * total // available]
        total += len(queue)
    rng.shuffle(held_out)
    excluded = set(held_out)
    kept = [
        [
            (index, content, wording)
            for content in range(len(task.contents))
            for wording in range(len(task.wordings))
            if (index, content, wording) not in excluded
        ]
        for index, task in enumerate(family.tasks)
    ]
    return kept, held_out


def _candidates(index: int, task: Task, rng: random.Random) -> list[Pair]:
    """A task's pairs in the order of holding out; two wordings of each content stay in training.

    Each round takes one wording of every content. Contents start at different wordings, so that no wording loses more
    than its share.
    """
    contents = list(range(len(task.contents)))
    rng.shuffle(contents)
    n = len(task.wordings)
    return [(index, content, (i + turn) % n) for turn in range(n - 2) for i, content in enumerate(contents)]


def _sample_endlessly(family: Family, kept: Sequence[list[Pair]], rng: random.Random) -> Iterator[tuple[Message, ...]]:
    """Yield a family's conversations endlessly: every kept pair once in random order, then again in a new order.

    Tasks are sampled in proportion to the square root of their number of pairs, so that small tasks still occur often.
    """
    queues = [_shuffle_endlessly(pairs, rng) for pairs in kept]
    weights = [len(pairs) ** 0.5 for pairs in kept]
    while True:
        task, content, wording = next(rng.choices(queues, weights)[0])
        yield family.tasks[task].make(content, wording, rng)


def _shuffle_endlessly(pairs: list[Pair], rng: random.Random) -> Iterator[Pair]:
    order = list(pairs)
    while True:
        rng.shuffle(order)
        yield from order


def _conversation(
    families: Sequence[Family],
    streams: dict[str, Iterator[tuple[Message, ...]]],
    settings: BasicsSettings,
    rng: random.Random,
) -> Example:
    """A single task, or a chain of tasks."""
    is_chain = rng.random() < settings.chain_share
    chosen = rng.choices(
        families,
        [family.weight for family in families],
        k=rng.randint(2, settings.max_turns) if is_chain else 1,
    )
    messages = tuple(message for family in chosen for message in next(streams[family.name]))
    return Example(
        _with_system(messages, settings.system_share, rng),
        CHAIN if is_chain else chosen[0].name,
    )


def _with_system(messages: tuple[Message, ...], share: float, rng: random.Random) -> tuple[Message, ...]:
    if rng.random() >= share:
        return messages
    return (Message("system", rng.choice(SYSTEM_PROMPTS)), *messages)
