"""Checks citations: removes numbers that no source has, and aligns each sentence of an answer with the passages.

Small models cite unreliably: a number may be wrong, and a sentence without one may come from a source. Each
sentence is therefore also compared with the passages by its words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from resonance.retrieval.language_detection import document_language
from resonance.retrieval.text import sentence_spans, terms
from resonance.retrieval.types import Source

MATCHED = 0.6  # share of a sentence's content words that a passage must contain to support it
FEWEST = 2  # content words; a shorter sentence ("Yes.") is not compared
SHORT = 4  # content words; in a shorter sentence every word must match
# Number words; "one" is left out because it rarely counts anything.
_NUMBER_WORDS = frozenset(
    terms(
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion "
        "noon midnight half twice"
    )
)
_MARK = re.compile(r"[ \t]?\[\s*(\d{1,4}(?:\s*,\s*\d{1,4})*)\s*\]")
_MARKS = re.compile(r"(?:\[[\d,\s]+\]\s*)+")
# A text end that may become a citation when more text arrives.
_OPEN = re.compile(r"[ \t]?(?:\[[\s\d,]{0,24})?$")
_BEGUN = re.compile(r"\[[\s\d,]*$")


@dataclass(frozen=True, slots=True)
class SentenceSupport:
    """One sentence of an answer.

    `start` and `end` are its offsets in the cleaned answer, `cited` the numbers it cites, `sources` the sources whose
    passages support it, best first, and `matched` whether there is one.
    """

    text: str
    start: int
    end: int
    cited: tuple[int, ...]
    sources: tuple[int, ...]
    matched: bool


@dataclass(frozen=True, slots=True)
class AlignedAnswer:
    """An answer without unknown citations, and the support of each sentence."""

    text: str
    sentences: tuple[SentenceSupport, ...]

    def supports(self) -> dict[int, list[int]]:
        """The indices of the sentences that each source supports, by source id."""
        found: dict[int, list[int]] = {}
        for index, sentence in enumerate(self.sentences):
            for number in sentence.sources:
                found.setdefault(number, []).append(index)
        return found

    def citations(self) -> tuple[int, int]:
        """The number of citations whose source supports their sentence, and the number of citations."""
        supported = [number in sentence.sources for sentence in self.sentences for number in sentence.cited]
        return sum(supported), len(supported)


def align(answer: str, sources: Sequence[Source], *, keep_unknown: bool = False) -> AlignedAnswer:
    """Align each sentence of an answer with the sources; unknown citations are removed unless `keep_unknown`."""
    text = answer if keep_unknown else remove_unknown_citations(answer, sources)
    found: list[SentenceSupport] = []
    for start, end in _spans(text):
        sentence = text[start:end]
        cited = tuple(dict.fromkeys(number for mark in _MARK.finditer(sentence) for number in _numbers(mark)))
        supporting = _supporting(_MARK.sub("", sentence), sources)
        found.append(SentenceSupport(sentence, start, end, cited, supporting, bool(supporting)))
    return AlignedAnswer(text, tuple(found))


def remove_unknown_citations(text: str, sources: Sequence[Source], before: str = "") -> str:
    """Remove the citation numbers that no source has from `text`, which follows `before`.

    A mark without known numbers is removed whole. Inside an open bracket its brackets stay, empty: without them the
    text around it could form a new mark.
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
    """`remove_unknown_citations` for a stream: buffers a possible citation until it is complete or ruled out.

    Without a search (`sources` None) text passes unchanged, since `[1]` may be the answer's own list. After a search
    without results every number is unknown.
    """

    def __init__(self, sources: Sequence[Source] | None) -> None:
        self._sources = sources
        self._buffer = self._shown = ""  # `_shown`: the output from its last open bracket on

    def feed(self, text: str) -> str:
        """Add the next piece of the answer; return the text that is final."""
        if self._sources is None:
            return text
        pending = self._buffer + text
        opened = _OPEN.search(pending)
        end = opened.start() if opened else len(pending)
        self._buffer = pending[end:]
        return self._clean(pending[:end], self._sources)

    def flush(self) -> str:
        """Return the rest when the answer has ended."""
        rest, self._buffer = self._buffer, ""
        return rest if self._sources is None else self._clean(rest, self._sources)

    def _clean(self, text: str, sources: Sequence[Source]) -> str:
        cleaned = remove_unknown_citations(text, sources, self._shown)
        begun = _BEGUN.search(self._shown + text)
        self._shown = begun.group() if begun else ""
        return cleaned


def _spans(text: str) -> list[tuple[int, int]]:
    """Each sentence's offsets; marks after a full stop belong to the sentence before them: `A fact. [1] Another.`."""
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


def _supporting(sentence: str, sources: Sequence[Source]) -> tuple[int, ...]:
    """The sources that contain enough of the sentence's words and all of its numbers, best first."""
    scored: list[tuple[float, int]] = []
    for source in sources:
        # In the source's language, since an answer's sentence may be too short to tell its own.
        language = document_language(source.passage)
        words = set(terms(sentence, language))
        if len(words) < FEWEST:
            continue
        figures = {word for word in words if word in _NUMBER_WORDS or any(character.isdigit() for character in word)}
        contained = set(terms(f"{source.title} {source.passage}", language))
        share = len(words & contained) / len(words)
        if share >= (MATCHED if len(words) >= SHORT else 1.0) and figures <= contained:
            scored.append((-share, source.id))
    return tuple(number for _, number in sorted(scored))
