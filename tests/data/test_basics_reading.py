"""The families for mixing in, notes and cited sources: the answer is in the context, or the answer says it is not."""

import random
import re
from collections import Counter

import pytest

from data.basics import MIX_IN, BasicsSettings, generate
from data.basics.cited import MISSING
from data.basics.family import Family
from data.basics.topics import TOPICS, Topic
from data.example import Example
from resonance.retrieval.ranking import context_of
from resonance.retrieval.types import Source

LINE = re.compile(r"\[(?P<id>\d+)\] (?P<title>.+?) \((?P<site>\S+)\): (?P<passage>.+)")
CITED = re.compile(r"(?P<fact>[^\[\]]+) \[(?P<id>\d+)\]\.\s*")


def made(family: str, count: int = 600) -> list[Example]:
    """Held-out examples of one family."""
    return list(generate(BasicsSettings(train_size=0, validation_size=0, test_size=count, families=(family,))).test)


@pytest.fixture(scope="module")
def from_sources() -> list[Example]:
    return made("cited")


def context_and_question(example: Example) -> tuple[str, str]:
    users = [message for message in example.prompt if message.role == "user"]
    assert users[0].context is not None
    return users[0].context, users[-1].content


def sources_of(context: str) -> list[Source]:
    found = [LINE.fullmatch(line) for line in context.splitlines()]
    return [
        Source(int(line["id"]), line["title"], line["site"], line["site"], line["passage"], 1.0)
        for line in found
        if line is not None
    ]


def parse(question: str) -> tuple[Topic, str]:
    """Which kind of fact a whole question asks for, and of whom."""
    (found,) = {
        (topic.name, subject): (topic, subject)
        for topic in TOPICS
        for subject in topic.subjects
        if question in {wording.format(subject=subject) for wording in topic.questions}
    }.values()
    return found


def test_sources_stand_in_the_prompt_exactly_as_the_server_writes_them(from_sources: list[Example]) -> None:
    for example in from_sources:
        context, _ = context_and_question(example)
        assert context_of(sources_of(context)) == context


def test_every_sentence_of_an_answer_is_in_the_source_that_it_cites(from_sources: list[Example]) -> None:
    answers = [example for example in from_sources if " [" in example.answer.removeprefix("Source ")]
    assert len(answers) > 300
    for example in answers:
        context, _ = context_and_question(example)
        passages = {source.id: source.passage for source in sources_of(context)}
        cited = list(CITED.finditer(example.answer))
        assert "".join(found.group() for found in cited) == example.answer
        for found in cited:
            assert f"{found['fact']}." in passages[int(found["id"])]


def test_the_sources_are_said_not_to_tell_exactly_when_they_do_not(from_sources: list[Example]) -> None:
    judged: Counter[bool] = Counter()
    for example in from_sources:
        context, question = context_and_question(example)
        if len(example.prompt) > 2 or not any(
            question in {w.format(subject=s) for w in topic.questions} for topic in TOPICS for s in topic.subjects
        ):
            continue
        topic, subject = parse(question)
        answerable = topic.fact.split("{value}")[0].format(subject=subject) in context
        assert answerable == (example.answer != MISSING)
        judged[answerable] += 1
    assert min(judged[True], judged[False]) > 50


def test_a_source_that_tells_of_the_subject_may_still_not_hold_the_answer() -> None:
    example = next(
        example
        for example in made("cited", 900)
        if example.answer == MISSING and parse(example.prompt[-1].content)[1] in str(example.prompt[-1].context)
    )
    topic, subject = parse(example.prompt[-1].content)
    assert topic.fact.split("{value}")[0].format(subject=subject) not in str(example.prompt[-1].context)


def test_which_source_is_about_a_subject_is_answered_with_its_number(from_sources: list[Example]) -> None:
    found = [example for example in from_sources if example.answer.startswith("Source [")]
    assert found
    for example in found:
        context, question = context_and_question(example)
        lines = {source.id: source.passage for source in sources_of(context)}
        subject = re.sub(r"^(?:.*about|.*mentions) (?:the )?|[?.]$", "", question)
        assert subject in lines[int(example.answer[8:-2])]


def test_there_are_one_to_four_sources_from_many_fields(from_sources: list[Example]) -> None:
    counts = Counter(len(sources_of(context_and_question(example)[0])) for example in from_sources)
    assert set(counts) == {1, 2, 3, 4}
    titles = {source.title for example in from_sources for source in sources_of(context_and_question(example)[0])}
    assert len(titles) > 300


def test_two_questions_in_one_message_are_both_answered(from_sources: list[Example]) -> None:
    both = [example for example in from_sources if example.answer.count("[") == 2]
    assert both
    for example in both:
        numbers = [found["id"] for found in CITED.finditer(example.answer)]
        assert len(set(numbers)) == 2


def test_a_note_holds_the_answer_and_a_follow_up_asks_about_another_fact_of_it() -> None:
    examples = made("notes")
    follow_ups = [example for example in examples if len(example.prompt) > 2]
    assert 100 < len(follow_ups) < 500
    for example in examples:
        context, _ = context_and_question(example)
        assert example.answer in context
    for example in follow_ups:
        _, first_answer, _ = example.prompt[-3:]
        assert first_answer.content != example.answer


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_question_names_its_subject_as_the_fact_does(topic: Topic) -> None:
    for wording in topic.questions:
        assert wording.count("{subject}") == 1
        assert ("the {subject}" in wording.lower()) == ("the {subject}" in topic.fact.lower())
    assert len(set(topic.subjects)) == len(topic.subjects) > 8
    assert len(set(topic.values)) == len(topic.values) > 5


def test_what_is_to_be_repeated_is_repeated() -> None:
    rng = random.Random(0)
    for task in MIX_IN["copying"].tasks:
        for content in range(0, len(task.contents), 40):
            *_, question, answer = task.make(content, content % len(task.wordings), rng)
            assert question.content.endswith(f": {answer.content}")


@pytest.mark.parametrize("family", MIX_IN.values(), ids=MIX_IN)
def test_no_held_out_question_about_the_same_text_is_trained(family: Family) -> None:
    splits = generate(
        BasicsSettings(train_size=3000, validation_size=50, test_size=200, families=(family.name,), chain_share=0.0)
    )
    trained = {example.prompt for example in splits.train}
    held_out = [example.prompt for example in (*splits.test, *splits.validation)]
    assert len(set(held_out)) == len(held_out)
    assert not trained & set(held_out)


def test_the_families_for_mixing_in_are_made_only_by_name() -> None:
    assert not {example.family for example in generate(BasicsSettings(train_size=300)).train} & set(MIX_IN)
