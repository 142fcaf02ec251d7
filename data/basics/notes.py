"""The family whose answers must be found in a short note: a few facts, of which one is asked for.

Answers repeat the fact as the note has it: to tell which of several facts is asked for, a small model then has to go
on with a sentence that it has begun, which it learns sooner than to look two things up at once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from data.basics.family import Family, Row, Task, Vary, Wording, ask
from data.basics.topics import TOPICS, Topic

# How many facts stand beside the one that is asked for, drawn from these; of follow-ups at least one.
OTHERS = (0, 0, 1, 1, 2, 3)
OTHERS_OF_FOLLOW_UPS = (1, 2, 3)
# The share of facts beside it that are of the same kind, where any kind will do.
SAME_KIND = 0.6
# Contents that a task has of each topic, at least.
CONTENTS = 60


@dataclass(frozen=True)
class Fact:
    """One thing told of one subject."""

    topic: Topic
    subject: str
    told: str

    @cached_property
    def text(self) -> str:
        """The sentence."""
        return self.topic.fact.format(subject=self.subject, told=self.told)

    @property
    def short(self) -> str:
        """The subject as a follow-up names it."""
        return self.topic.short.format(subject=self.subject)


def contents(topic: Topic) -> tuple[Row, ...]:
    """Pairs of a subject and what is told of it, no subject more often than needed."""
    rng = random.Random(topic.name)
    subjects = rng.sample(topic.subjects, len(topic.subjects))
    told = rng.sample(topic.told, len(topic.told))
    # Two cycles whose lengths share no factor would meet all pairs; a shift a round comes near enough.
    rows: dict[tuple[str, str], None] = {}
    for i in range(max(CONTENTS, len(subjects))):
        rows[subjects[i % len(subjects)], told[(i + i // len(subjects)) % len(told)]] = None
    return tuple({"subject": s, "told": t, "short": topic.short.format(subject=s)} for s, t in rows)


def draw_others(fact: Fact, count: int, rng: random.Random, *, same: int = 0) -> list[Fact]:
    """Facts to stand beside another, the first `same` of them of its kind; no subject and no value twice."""
    facts = [fact]
    while len(facts) <= count:
        alike = len(facts) <= same or rng.random() < SAME_KIND
        topic = fact.topic if alike else rng.choice(TOPICS)
        one = Fact(topic, rng.choice(topic.subjects), rng.choice(topic.told))
        if all(one.subject != other.subject and one.told != other.told for other in facts):
            facts.append(one)
    return facts[1:]


def _note(topic: Topic, counts: Sequence[int], same: int = 0) -> Vary:
    """A note that holds the content's fact, and one of the others as `other...`."""

    def vary(fields: Row, rng: random.Random) -> Row:
        fact = Fact(topic, fields["subject"], fields["told"])
        beside = draw_others(fact, rng.choice(counts), rng, same=same)
        facts = rng.sample([fact, *beside], len(beside) + 1)
        added = {"note": " ".join(one.text for one in facts)}
        if same:
            added |= {"other": beside[0].subject, "other_told": beside[0].told, "other_short": beside[0].short}
        return added

    return vary


def _tasks(topic: Topic) -> tuple[Task, Task]:
    """Single questions about a note, and follow-ups to a first question."""
    first, *questions = topic.questions
    rows = contents(topic)
    answered = (other_of(first), other_of(topic.fact))
    return (
        Task(rows, ask(topic.fact, *questions, context="{note}"), _note(topic, OTHERS)),
        Task(
            rows,
            tuple(Wording(question, topic.fact, "{note}", before=(answered,)) for question in FOLLOW_UPS),
            _note(topic, OTHERS_OF_FOLLOW_UPS, same=1),
        ),
    )


def other_of(text: str) -> str:
    """A format string over `subject` and `told`, about the other fact."""
    return text.replace("{subject}", "{other}").replace("{told}", "{other_told}")


FOLLOW_UPS = ("And {short}?", "What about {short}?", "And what about {short}?", "Now {short}, please.")

notes = Family("notes", tuple(task for topic in TOPICS for task in _tasks(topic)), weight=2.0)
