"""The family whose answers come from numbered sources, with the source's number; or say that they are in none.

The sources are written down as retrieval gives them: `[1] Title (site): text`, one a line.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from data.basics.family import Family, Row, Task, Vary, Wording, ask
from data.basics.notes import FOLLOW_UPS, OTHERS, OTHERS_OF_FOLLOW_UPS, Fact, contents, draw_others, other_of
from data.basics.tables import SITES
from data.basics.topics import TOPICS, Topic

MISSING = "None of the sources says."
# Share of sources that tell a second thing of their subject, where there is one to tell.
_TWO_FACTS = 0.3
# Share of the questions without an answer whose subject does occur, told of in another way.
_NEAR_MISSES = 0.25


def _source(fact: Fact, rng: random.Random) -> str:
    """A source's title, site and text."""
    title = fact.subject[0].upper() + fact.subject[1:]
    name = fact.subject.lower().replace(" ", "-")
    site = rng.choice((*SITES, f"{name}.md", f"{name}.txt"))
    text = fact.text
    beside = _beside(fact, rng)
    if beside is not None and rng.random() < _TWO_FACTS:
        text = " ".join(rng.sample((text, beside.text), 2))
    return f"{title} ({site}): {text}"


def _beside(fact: Fact, rng: random.Random) -> Fact | None:
    """Another kind of fact about the same subject."""
    topics = [topic for topic in TOPICS if topic.subjects is fact.topic.subjects and topic is not fact.topic]
    if not topics:
        return None
    topic = rng.choice(topics)
    return Fact(topic, fact.subject, rng.choice([told for told in topic.told if told != fact.told]))


def _numbered(facts: Sequence[Fact], rng: random.Random) -> str:
    return "\n".join(f"[{number}] {_source(fact, rng)}" for number, fact in enumerate(facts, start=1))


def _found(topic: Topic, counts: Sequence[int], same: int = 0) -> Vary:
    """Sources that hold the content's fact, its `number`, and one of the others as `other...`."""

    def vary(fields: Row, rng: random.Random) -> Row:
        fact = Fact(topic, fields["subject"], fields["told"])
        beside = draw_others(fact, rng.choice(counts), rng, same=same)
        facts = rng.sample([fact, *beside], len(beside) + 1)
        added = {"sources": _numbered(facts, rng), "number": str(facts.index(fact) + 1)}
        if same:
            other = beside[0]
            added |= {"other": other.subject, "other_told": other.told, "other_short": other.short}
            added |= {"other_number": str(facts.index(other) + 1)}
        return added

    return vary


def _not_found(topic: Topic) -> Vary:
    """One to four sources of which none says what is asked."""

    def vary(fields: Row, rng: random.Random) -> Row:
        told = rng.choice(topic.told)
        fact = Fact(topic, fields["subject"], told)
        facts = draw_others(fact, 1 + rng.choice(OTHERS), rng, same=rng.randint(0, 1))
        near = _beside(fact, rng)
        if near is not None and rng.random() < _NEAR_MISSES:
            return {"sources": _near_miss(near, facts[1:], rng)}
        return {"sources": _numbered(facts, rng)}

    return vary


def _near_miss(near: Fact, others: Sequence[Fact], rng: random.Random) -> str:
    """Sources, one of them about the right subject; it tells one thing only."""
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
        Task(rows, ask(cited, *questions, context="{sources}"), _found(topic, OTHERS)),
        Task(
            rows,
            tuple(
                Wording(question, cited, "{sources}", before=((other_of(first), other_cited),))
                for question in FOLLOW_UPS
            ),
            _found(topic, OTHERS_OF_FOLLOW_UPS, same=1),
        ),
        Task(
            rows,
            tuple(
                Wording(f"{first} {question}", f"{cited} {other_cited}", "{sources}")
                for question in ("And {other_short}?", "What about {other_short}?", "And what about {other_short}?")
            ),
            _found(topic, OTHERS_OF_FOLLOW_UPS, same=1),
        ),
        Task(subjects, ask(MISSING, *questions, context="{sources}"), _not_found(topic)),
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
            Task(contents(topic), ask("Source [{number}].", *_WHICH, context="{sources}"), _found(topic, (1, 2, 3)))
            for topic in TOPICS[::3]
        ),
    ),
    weight=3.0,
)
