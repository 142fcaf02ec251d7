"""The `cited` family: answers from numbered sources that cite the source, or say that no source has the answer.

Sources have the format of retrieval: `[1] Title (site): text`, one per line.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from data.basics.family import Family, Row, Task, Vary, Wording, ask
from data.basics.notes import FOLLOW_UPS, OTHERS, OTHERS_OF_FOLLOW_UPS, Fact, contents, draw_others, other_of
from data.basics.tables import SITES
from data.basics.topics import TOPICS, Topic

MISSING = "None of the sources says."
# Share of sources with a second fact about their subject, if its topic has one.
_TWO_FACTS = 0.3
# Share of unanswerable questions whose subject occurs in a source, with another kind of fact.
_NEAR_MISSES = 0.25


def _source(fact: Fact, rng: random.Random) -> str:
    """A source: title, site and text."""
    title = fact.subject[0].upper() + fact.subject[1:]
    name = fact.subject.lower().replace(" ", "-")
    site = rng.choice((*SITES, f"{name}.md", f"{name}.txt"))
    text = fact.text
    second = _same_subject(fact, rng)
    if second is not None and rng.random() < _TWO_FACTS:
        text = " ".join(rng.sample((text, second.text), 2))
    return f"{title} ({site}): {text}"


def _same_subject(fact: Fact, rng: random.Random) -> Fact | None:
    """Another kind of fact about the same subject, if there is one."""
    topics = [topic for topic in TOPICS if topic.subjects is fact.topic.subjects and topic is not fact.topic]
    if not topics:
        return None
    topic = rng.choice(topics)
    return Fact(topic, fact.subject, rng.choice([value for value in topic.values if value != fact.value]))


def _numbered(facts: Sequence[Fact], rng: random.Random) -> str:
    return "\n".join(f"[{number}] {_source(fact, rng)}" for number, fact in enumerate(facts, start=1))


def _answerable(topic: Topic, counts: Sequence[int], same: int = 0) -> Vary:
    """Adds sources with the content's fact, its `number`, and another fact as `other...`."""

    def vary(fields: Row, rng: random.Random) -> Row:
        fact = Fact(topic, fields["subject"], fields["value"])
        others = draw_others(fact, rng.choice(counts), rng, same=same)
        facts = rng.sample([fact, *others], len(others) + 1)
        added = {"sources": _numbered(facts, rng), "number": str(facts.index(fact) + 1)}
        if same:
            other = others[0]
            added |= {"other": other.subject, "other_value": other.value, "other_short": other.short}
            added |= {"other_number": str(facts.index(other) + 1)}
        return added

    return vary


def _unanswerable(topic: Topic) -> Vary:
    """Adds one to four sources without the answer."""

    def vary(fields: Row, rng: random.Random) -> Row:
        fact = Fact(topic, fields["subject"], rng.choice(topic.values))
        facts = draw_others(fact, 1 + rng.choice(OTHERS), rng, same=rng.randint(0, 1))
        near = _same_subject(fact, rng)
        if near is not None and rng.random() < _NEAR_MISSES:
            return {"sources": _near_miss(near, facts[1:], rng)}
        return {"sources": _numbered(facts, rng)}

    return vary


def _near_miss(near: Fact, others: Sequence[Fact], rng: random.Random) -> str:
    """Sources of which one is about the right subject, with a single fact."""
    title = near.subject[0].upper() + near.subject[1:]
    lines = [f"{title} ({rng.choice(SITES)}): {near.text}", *(_source(fact, rng) for fact in others)]
    rng.shuffle(lines)
    return "\n".join(f"[{number}] {line}" for number, line in enumerate(lines, start=1))


def _tasks(topic: Topic) -> tuple[Task, ...]:
    first, *questions = topic.questions
    rows = contents(topic)
    cited, other_cited = f"{topic.fact[:-1]} [{{number}}].", other_of(f"{topic.fact[:-1]} [{{number}}].")
    other_cited = other_cited.replace("{number}", "{other_number}")
    subjects = tuple(
        {name: row[name] for name in ("subject", "short")} for row in {r["subject"]: r for r in rows}.values()
    )
    return (
        Task(rows, ask(cited, *questions, context="{sources}"), _answerable(topic, OTHERS)),
        Task(
            rows,
            tuple(
                Wording(question, cited, "{sources}", before=((other_of(first), other_cited),))
                for question in FOLLOW_UPS
            ),
            _answerable(topic, OTHERS_OF_FOLLOW_UPS, same=1),
        ),
        Task(
            rows,
            tuple(
                Wording(f"{first} {question}", f"{cited} {other_cited}", "{sources}")
                for question in ("And {other_short}?", "What about {other_short}?", "And what about {other_short}?")
            ),
            _answerable(topic, OTHERS_OF_FOLLOW_UPS, same=1),
        ),
        Task(subjects, ask(MISSING, *questions, context="{sources}"), _unanswerable(topic)),
    )


_WHICH = (
    "Which source is about {short}?",
    "Which source mentions {short}?",
    "Where do I read about {short}?",
    "Name the source about {short}.",
)

cited = Family(
    "cited",
    (
        *(task for topic in TOPICS for task in _tasks(topic)),
        *(
            Task(
                contents(topic), ask("Source [{number}].", *_WHICH, context="{sources}"), _answerable(topic, (1, 2, 3))
            )
            for topic in TOPICS[::3]
        ),
    ),
    weight=3.0,
)
