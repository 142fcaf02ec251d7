"""Questions of families that the demo is weak in, in words that its training data does not use, with their answers."""

import random
from dataclasses import dataclass

from data.basics.tables import DAYS, MONTHS, NUMBER_WORDS

FAMILIES = ("sums", "number_words", "calendar")


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its right answer."""

    family: str
    text: str
    answer: str


def questions(seed: int) -> list[Question]:
    """All of them, each once, in random order."""
    found: list[Question] = []
    for a in range(1, 10):
        for b in range(1, 11 - a):
            for text in (f"{a} + {b} = ?", f"Add {a} and {b}."):
                found.append(Question("sums", text, str(a + b)))
            for text in (f"{a + b} - {b} = ?", f"Take {b} away from {a + b}."):
                found.append(Question("sums", text, str(a)))
    for number, word in enumerate(NUMBER_WORDS):
        for text in (f"{number} in words, please?", f"Put {number} into letters.", f"Say {number} as text."):
            found.append(Question("number_words", text, word))
        for text in (f"{word} in figures, please?", f"Give me the figure for {word}.", f"Type {word} as a figure."):
            found.append(Question("number_words", text, str(number)))
    for cycle in (DAYS, MONTHS):
        for place, name in enumerate(cycle):
            after, before = cycle[(place + 1) % len(cycle)], cycle[place - 1]
            for text in (f"Which one follows {name}?", f"{name} is over. What begins?", f"Go one on from {name}."):
                found.append(Question("calendar", text, after))
            for text in (
                f"Which one leads up to {name}?",
                f"{name} begins. What is over?",
                f"Go one back from {name}.",
            ):
                found.append(Question("calendar", text, before))
    random.Random(seed).shuffle(found)
    return found
