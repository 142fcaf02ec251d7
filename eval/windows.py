"""Sliding windows over texts that are longer than a model's context."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens [begin, end) of a text; those from `first` on are scored, the earlier ones are context."""

    begin: int
    first: int
    end: int


def sliding_windows(tokens: int, size: int, stride: int) -> Iterator[Window]:
    """Windows of at most `size` tokens that score each of a text's tokens once, except for its first.

    Each window ends `stride` tokens after the one before (the last one at the text's end), and all but the first have
    the full size, so that every token has at least `size - stride` tokens of context, or the whole text before it.
    """
    scored = 1
    while scored < tokens:
        end = min(tokens, size if scored == 1 else scored + stride)
        yield Window(max(0, end - size), scored, end)
        scored = end
