"""Questions in words that the demo's training data does not use, so that it is weak in them, with their answers."""

import random
from dataclasses import dataclass

from data.basics.tables import NUMBER_WORDS, OPPOSITES, PAST, PLURALS


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its right answer."""

    family: str
    text: str
    answer: str


def questions(seed: int) -> list[Question]:
    """All of them, each once, in random order."""
    found: list[Question] = []
    for row in PLURALS:
        for text in (f"Here is one {row['one']}. Here are two ...?", f"{row['one']}, but many of them: ...?"):
            found.append(Question("plurals", text, row["many"]))
    for row in OPPOSITES:
        for word, opposite in ((row["word"], row["opposite"]), (row["opposite"], row["word"])):
            found.append(Question("opposites", f"Not {word} but the other way round: ...?", opposite))
    for row in PAST:
        for text in (f"Today we {row['verb']}. Yesterday we ...?", f"{row['verb']}, but a year ago: ...?"):
            found.append(Question("past_tense", text, row["past"]))
    for number, word in enumerate(NUMBER_WORDS):
        for text in (f"{number} in words, please?", f"Put {number} into letters."):
            found.append(Question("number_words", text, word))
        for text in (f"{word} in figures, please?", f"Type {word} as a figure."):
            found.append(Question("number_words", text, str(number)))
    random.Random(seed).shuffle(found)
    return found
