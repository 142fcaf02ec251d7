"""Guessing what a text will say next, so that one step can check several tokens.

A guess never changes the text: each of its tokens is kept only where sampling, with the random number that belongs
to its place, chooses the same one.
"""

from array import array
from collections.abc import Sequence
from typing import Protocol

from resonance.engine.sequence import Text


class Drafter(Protocol):
    """What the scheduler asks of whatever guesses."""

    def guess(self, texts: Sequence[Text], limits: Sequence[int]) -> list[list[int]]:
        """For each text, which has a slot and is decoding, at most so many tokens that it may say next."""
        ...


class PromptLookup:
    """Guesses that a text goes on as it did when its last tokens last occurred in it.

    Source: Saxena 2023, "Prompt Lookup Decoding".
    """

    LONGEST, SHORTEST = 4, 2  # tokens that must have occurred before
    MOST = 10

    def guess(self, texts: Sequence[Text], limits: Sequence[int]) -> list[list[int]]:
        """See Drafter."""
        return [
            self._look_up(text.token_ids, min(limit, self.MOST)) if limit > 0 and text.can_be_guessed else []
            for text, limit in zip(texts, limits, strict=True)
        ]

    def _look_up(self, token_ids: list[int], limit: int) -> list[int]:
        ids = array("i", token_ids)
        data, width = ids.tobytes(), ids.itemsize
        for length in range(self.LONGEST, self.SHORTEST - 1, -1):
            tail = data[-length * width :]
            at = data.rfind(tail, 0, len(data) - width)
            while at >= 0 and at % width:  # found across the border of two numbers
                at = data.rfind(tail, 0, at + len(tail) - 1)
            if at >= 0:
                start = at // width + length
                return token_ids[start : start + limit]
        return []
