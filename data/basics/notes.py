"""The `notes` family: answers from a short note of a few facts.

Answers repeat the note's sentence. A small model learns to continue a sentence that it has started sooner than to
retrieve two things at once.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from data.basics.family import Family, Row, Task, Vary, Wording, ask
from data.basics.topics import TOPICS, Topic

# The number of other facts in a note, drawn from these; at least one for follow-ups.
OTHERS = (0, 0, 1, 1, 2, 3)
OTHERS_OF_FOLLOW_UPS = (1, 2, 3)
# The share of other facts of the same topic, where any topic is possible.
SAME_KIND = 0.6
# The least number of contents of a task, by topic.
CONTENTS = 60


@dataclass(frozen=True)
class Fact:
    """A statement about a subject: a topic and its value."""

    topic: Topic
    subject: str
    value: str

    @cached_property
    def text(self) -> str:
        """The fact as a sentence."""
        return self.topic.fact.format(subject=self.subject, value=self.value)

    @property
    def short(self) -> str:
        """The subject as a follow-up question names it."""
        return self.topic.short.format(subject=self.subject)


def contents(topic: Topic) -> tuple[Row, ...]:
    """Pairs of a subject and a value, no subject more often than needed."""
    rng = random.Random(topic.name)
    subjects = rng.sample(topic.subjects, len(topic.subjects))
    values = rng.sample(topic.values, len(topic.values))
    # Two cycles of coprime lengths would produce all pairs; a shift per round comes near enough.
    rows: dict[tuple[str, str], None] = {}
    for i in range(max(CONTENTS, len(subjects))):
        rows[subjects[i % len(subjects)], values[(i + i // len(subjects)) % len(values)]] = None
    return tuple({"subject": s, "value": v, "short": topic.short.format(subject=s)} for s, v in rows)


def draw_others(fact: Fact, count: int, rng: random.Random, *, same: int = 0) -> list[Fact]:
    """Other facts, the first `same` of them of the same topic; no subject and no value occurs twice."""
    facts = [fact]
    while len(facts) <= count:
        same_topic = len(facts) <= same or rng.random() < SAME_KIND
        topic = fact.topic if same_topic else rng.choice(TOPICS)
        new = Fact(topic, rng.choice(topic.subjects), rng.choice(topic.values))
        if all(new.subject != other.subject and new.value != other.value for other in facts):
            facts.append(new)
    return facts[1:]


def _note(topic: Topic, counts: Sequence[int], same: int = 0) -> Vary:
    """Adds a note with the content's fact, and another fact as `other...`."""

    def vary(fields: Row, rng: random.Random) -> Row:
        fact = Fact(topic, fields["subject"], fields["value"])
        others = draw_others(fact, rng.choice(counts), rng, same=same)
        facts = rng.sample([fact, *others], len(others) + 1)
        added = {"note": " ".join(each.text for each in facts)}
        if same:
            added |= {"other": others[0].subject, "other_value": others[0].value, "other_short": others[0].short}
        return added

    return vary


def _tasks(topic: Topic) -> tuple[Task, Task]:
    """Single questions about a note, and follow-ups to an earlier question."""
    first, *questions = topic.questions
    rows = contents(topic)
    earlier = (other_of(first), other_of(topic.fact))
    return (
        Task(rows, ask(topic.fact, *questions, context="{note}"), _note(topic, OTHERS)),
        Task(
            rows,
            tuple(Wording(question, topic.fact, "{note}", before=(earlier,)) for question in FOLLOW_UPS),
            _note(topic, OTHERS_OF_FOLLOW_UPS, same=1),
        ),
    )


def other_of(text: str) -> str:
    """A format string over `subject` and `value`, rewritten for the other fact."""
    return text.replace("{subject}", "{other}").replace("{value}", "{other_value}")


FOLLOW_UPS = ("And {short}?", "What about {short}?", "And what about {short}?", "Now {short}, please.")

notes = Family("notes", tuple(task for topic in TOPICS for task in _tasks(topic)), weight=2.0)
