"""The `copying` family: repeats words, names, numbers and whole sentences."""

from __future__ import annotations

import random

from data.basics.family import Family, Row, Task, ask
from data.basics.notes import Fact
from data.basics.topics import TOPICS


def _listings(count: int) -> tuple[Row, ...]:
    """Lists of two to six unrelated words."""
    rng = random.Random(3)
    pool = sorted({word for topic in TOPICS for word in (*topic.subjects, *topic.values)})
    return tuple({"text": ", ".join(rng.sample(pool, rng.randint(2, 6)))} for _ in range(count))


def _sentences(count: int) -> tuple[Row, ...]:
    """Facts of all topics."""
    rng = random.Random(4)
    texts: dict[str, None] = {}
    while len(texts) < count:
        topic = rng.choice(TOPICS)
        texts[Fact(topic, rng.choice(topic.subjects), rng.choice(topic.values)).text] = None
    return tuple({"text": text} for text in texts)


_QUESTIONS = (
    "Repeat this: {text}",
    "Say this again: {text}",
    "Copy this: {text}",
    "Say after me: {text}",
    "Write this once more: {text}",
)

copying = Family(
    "copying", (Task(_listings(400), ask("{text}", *_QUESTIONS)), Task(_sentences(400), ask("{text}", *_QUESTIONS)))
)
