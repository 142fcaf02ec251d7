"""What an answer says of its sources: numbers that lead nowhere go, sentences are held against the passages.

Small models cite by habit: a number may be wrong, and a sentence without one may well come from a source.
So every sentence is also compared with the passages by its own words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from resonance.retrieval.text import sentence_spans, terms
from resonance.retrieval.types import Source

# Share of a sentence's content words that a passage must hold for the sentence to count as drawn from it.
MATCHED = 0.6
# Content words below which a sentence says too little to be compared ("Yes."), and below which each word counts.
FEWEST = 2
SHORT = 4
# Numbers in words; "one" is left out, which mostly counts nothing.
_NUMBER_WORDS = frozenset(
    terms(
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion "
        "noon midnight half twice"
    )
)
_MARK = re.compile(r"[ \t]?\[\s*(\d{1,4}(?:\s*,\s*\d{1,4})*)\s*\]")
_MARKS = re.compile(r"(?:\[[\d,\s]+\]\s*)+")
# What could still become a citation when more text arrives.
_OPEN = re.compile(r"[ \t]?(?:\[[\s\d,]{0,24})?$")
_BEGUN = re.compile(r"\[[\s\d,]*$")


@dataclass(frozen=True, slots=True)
class Supported:
    """One sentence of an answer.

    `start` and `end` are its place in the cleaned answer; `cited` the numbers it names; `sources` the sources
    whose passages hold its words, best first; `matched` whether there is one.
    """

    text: str
    start: int
    end: int
    cited: tuple[int, ...]
    sources: tuple[int, ...]
    matched: bool


@dataclass(frozen=True, slots=True)
class Aligned:
    """An answer whose every number is a source's, and what each sentence draws on."""

    text: str
    sentences: tuple[Supported, ...]

    def supports(self) -> dict[int, list[int]]:
        """For each source's id the sentences (from 0) that it supports."""
        found: dict[int, list[int]] = {}
        for place, sentence in enumerate(self.sentences):
            for number in sentence.sources:
                found.setdefault(number, []).append(place)
        return found

    def citations(self) -> tuple[int, int]:
        """How many citations name a source that supports their sentence, and how many citations there are."""
        judged = [number in sentence.sources for sentence in self.sentences for number in sentence.cited]
        return sum(judged), len(judged)


def align(answer: str, sources: Sequence[Source], *, keep_unknown: bool = False) -> Aligned:
    """Hold each sentence of an answer against the sources; numbers that no source has go, unless they are kept."""
    text = answer if keep_unknown else without_unknown(answer, sources)
    found: list[Supported] = []
    for start, end in _spans(text):
        sentence = text[start:end]
        cited = tuple(dict.fromkeys(number for mark in _MARK.finditer(sentence) for number in _numbers(mark)))
        drawn = _drawn_from(_MARK.sub("", sentence), sources)
        found.append(Supported(sentence, start, end, cited, drawn, bool(drawn)))
    return Aligned(text, tuple(found))


def without_unknown(text: str, sources: Sequence[Source], before: str = "") -> str:
    """The text, which follows `before`, without the numbers that no source has.

    A mark that holds none of the others goes whole. Within another bracket its own stay, empty: what is around it
    could else close up to a mark.
    """
    known = {source.id for source in sources}

    def kept(mark: re.Match[str]) -> str:
        numbers = _numbers(mark)
        left = [number for number in dict.fromkeys(numbers) if number in known]
        if left == numbers:
            return mark.group()
        if not left:
            return "[]" if _BEGUN.search(before + text[: mark.start()]) else ""
        space = " " if mark.group()[0] != "[" else ""
        return f"{space}[{', '.join(map(str, left))}]"

    return _MARK.sub(kept, text)


class CitationFilter:
    """`without_unknown` for a stream: holds back what may become a citation until it is seen to be one or none.

    Where no search was made (`sources` None) nothing is held back and nothing removed: `[1]` may then be a list of the
    answer's own. Where one found nothing, every number leads nowhere.
    """

    def __init__(self, sources: Sequence[Source] | None) -> None:
        self._sources = sources
        self._held = self._shown = ""  # what was shown matters from its last opening bracket on

    def feed(self, text: str) -> str:
        """Take the next piece of the answer; return what can be shown now."""
        if self._sources is None:
            return text
        waiting = self._held + text
        opened = _OPEN.search(waiting)
        place = opened.start() if opened else len(waiting)
        self._held = waiting[place:]
        return self._show(waiting[:place], self._sources)

    def flush(self) -> str:
        """What is left when the answer has ended."""
        held, self._held = self._held, ""
        return held if self._sources is None else self._show(held, self._sources)

    def _show(self, text: str, sources: Sequence[Source]) -> str:
        cleaned = without_unknown(text, sources, self._shown)
        begun = _BEGUN.search(self._shown + text)
        self._shown = begun.group() if begun else ""
        return cleaned


def _spans(text: str) -> list[tuple[int, int]]:
    """Each sentence's place; marks behind a full stop belong to the sentence before them: `A fact. [1] Another.`."""
    spans: list[tuple[int, int]] = []
    for line in re.finditer(r"[^\n]+", text):
        in_line = False
        for first, last in sentence_spans(line.group()):
            start, end = line.start() + first, line.start() + last
            leading = _MARKS.match(text, start, end)
            if leading is not None and in_line:
                spans[-1] = (spans[-1][0], start + len(leading.group().rstrip()))
                start = leading.end()
            if start < end:
                spans.append((start, end))
                in_line = True
    return spans


def _numbers(mark: re.Match[str]) -> list[int]:
    return [int(number) for number in mark.group(1).split(",")]


def _drawn_from(sentence: str, sources: Sequence[Source]) -> tuple[int, ...]:
    """The sources that hold enough of the sentence's words, best first; every number in it must be there."""
    words = set(terms(sentence))
    if len(words) < FEWEST:
        return ()
    figures = {word for word in words if word in _NUMBER_WORDS or any(character.isdigit() for character in word)}
    scored: list[tuple[float, int]] = []
    for source in sources:
        held = set(terms(f"{source.title} {source.passage}"))
        share = len(words & held) / len(words)
        if share >= (MATCHED if len(words) >= SHORT else 1.0) and figures <= held:
            scored.append((-share, source.id))
    return tuple(number for _, number in sorted(scored))
