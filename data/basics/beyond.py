"""The `beyond` family: requests outside the model's skills; the answer says what the model can do instead.

The requests share words with the other families (countries, animals, things), so that the model must recognise the kind
of request, not its subject.
"""

from __future__ import annotations

import random
from itertools import product

from data.basics.family import Family, Row, Task, ask
from data.basics.pools import ANIMALS, FIRST_NAMES, JOBS, MACHINES, THINGS, TOWNS
from data.basics.tables import COUNTRIES, phrases

ANSWER = "I have not learned that. I can tell facts, do sums, change words and answer from sources."


_PIECES = phrases(
    """a poem, a song, a story, a letter, an essay, a play, a speech, a rhyme, a limerick, a fairy tale, a report,
    an article, a review, a blog post, a novel, a film script, a sonnet, a joke, a riddle, a diary, a lullaby,
    a ballad, a tweet, a headline, a love letter, a short text, two lines, a few words, an ode, a hymn"""
)
_THEMES = (
    phrases(
        """the sea, spring, winter, love, the moon, war, peace, friendship, rain, my mother, a long journey, hope, the
        stars, snow, music, old age, the forest, a rainy day, summer, the sun, time, space, football, cooking, money"""
    )
    + tuple(f"{'an' if animal[0] in 'aeiou' else 'a'} {animal}" for animal in ANIMALS)
    + tuple(row["country"] for row in COUNTRIES[::3])
    + tuple(f"the {thing}" for thing in THINGS[::4])
)
_LANGUAGES = phrases("French, German, Spanish, Italian, Latin, Greek, Chinese, Japanese, Russian, Arabic, Dutch")
_QUESTIONS = (
    phrases(
        """Who won the world cup, What is the meaning of life, What is love, How does a computer work, Why is the sky
        blue, How do planes fly, What happened in the last war, Who is the president, What is the weather today, What
        time is it, How old is the universe, Why do we dream, What is quantum physics, How do I lose weight, What
        should I eat tonight, Who wrote the Bible, How do I learn to swim, What is the stock market, Who discovered
        gravity, How do I become rich, What is the news today, Which film should I watch, How do I cook rice, What is
        a black hole, How do I fix my bike, Why do cats purr, Who painted this picture, How far is the moon"""
    )
    + tuple(f"How many people live in {row['country']}" for row in COUNTRIES[1::4])
    + tuple(f"How do I get to {town}" for town in TOWNS[::29])
    + tuple(f"Who invented the {machine}" for machine in MACHINES[::2])
    + tuple(f"How much does a {job} earn" for job in JOBS[::2])
)
_ACTIONS = (
    phrases(
        """Play some music, Order a pizza, Book a flight, Call my brother, Set an alarm, Open the window, Turn on the
        light, Draw a picture, Tell me a joke, Sing a song, Write some code, Write a program, Make a plan for my day,
        Give me advice, Sum up this book, Do my homework, Find me a job, Solve this equation, Plan a trip, Buy some
        milk, Read my mail, Fix my code, Guess my age, Teach me to dance, Invent a game, Show me a map"""
    )
    + tuple(f"Send a message to {name}" for name in FIRST_NAMES[::3])
    + tuple(f"Plan a holiday in {row['country']}" for row in COUNTRIES[2::4])
)


def _pieces(count: int) -> tuple[Row, ...]:
    """Pairs of a kind of text and its theme."""
    pairs = list(product(_PIECES, _THEMES))
    return tuple({"piece": piece, "theme": theme} for piece, theme in random.Random(5).sample(pairs, count))


def _translations(count: int) -> tuple[Row, ...]:
    pairs = list(product((*THINGS, *ANIMALS), _LANGUAGES))
    return tuple({"word": word, "language": language} for word, language in random.Random(6).sample(pairs, count))


beyond = Family(
    "beyond",
    (
        Task(
            _pieces(400),
            ask(
                ANSWER,
                "Write {piece} about {theme}.",
                "Write {piece} about {theme}",
                "Write me {piece} about {theme}, please.",
                "Can you write {piece} about {theme}?",
                "I would like {piece} about {theme}.",
                "Compose {piece} about {theme}.",
                "Give me {piece} about {theme}.",
            ),
        ),
        Task(
            _translations(80),
            ask(
                ANSWER,
                "Translate {word} into {language}.",
                "What is {word} in {language}?",
                "How do you say {word} in {language}?",
                "Translate to {language}: {word}",
            ),
        ),
        Task(
            tuple({"question": question} for question in _QUESTIONS),
            ask(
                ANSWER,
                "{question}?",
                "{question}",
                "Tell me: {question}?",
                "Hello! {question}?",
                "I wonder: {question}?",
            ),
        ),
        Task(
            tuple({"action": action, "action_lower": action[0].lower() + action[1:]} for action in _ACTIONS),
            ask(
                ANSWER,
                "{action}.",
                "{action}",
                "{action}, please.",
                "Can you {action_lower}?",
                "Please {action_lower}.",
            ),
        ),
    ),
    weight=0.9,
)
