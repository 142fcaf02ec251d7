"""Guessing what a text will say next, so that one step can check several tokens.

A guess never changes the text: each of its tokens is kept only where sampling, with the random number that belongs
to its place, chooses the same one. Source of the lookup: Saxena 2023, "Prompt Lookup Decoding".
"""

from array import array

from resonance.engine.text import Text

LONGEST, SHORTEST = 4, 2  # tokens that must have occurred before
MAX_GUESS = 10


def look_up(text: Text, limit: int) -> list[int]:
    """What followed the text's last tokens when they last occurred in it: at most `limit` tokens, often none."""
    if text.params.logits_processors or text.grammar or limit < 1:
        return []
    ids = array("i", text.token_ids)
    data, width = ids.tobytes(), ids.itemsize
    for length in range(LONGEST, SHORTEST - 1, -1):
        tail = data[-length * width :]
        at = data.rfind(tail, 0, len(data) - width)
        while at >= 0 and at % width:  # found across the border of two numbers
            at = data.rfind(tail, 0, at + len(tail) - 1)
        if at >= 0:
            start = at // width + length
            return text.token_ids[start : start + min(limit, MAX_GUESS)]
    return []
