"""The words of a language that deciding and rewriting use: `languages/*.yaml`, and bm25s's lists of stop words.

Each value of a file is a block of regular expressions, one or several (`|`) a line, tried on whole words in any case:

- `asks`: words that ask for a fact (who, when, how many); `questions`: other first words of questions and requests
- `explicit`: requests for a search, obeyed whatever the message's language is taken for
- `fresh`: things that change
- `small_talk`: a message of these alone is not searched for; `assistant`: questions about the assistant itself
- `work`: first words of tasks; `edit`: such words if a text follows; `words`: work on words and numbers
- `self`: first words of statements about the writer
- `fillers`: removed from the start of a query; `keep`: function words that a query keeps
- `pronouns`, `personal` (those of persons), `impersonal` (phrases whose pronouns refer to nothing)
- `bare`: follow-ups without content; `ellipsis`: first words of follow-ups; `times`: additions to the question before
- `kinds`: kinds that refer to something named before; `identifies`: first words of questions whose answer is a name;
  `which`: of those, the ones whose answer rather than topic is meant by `it`
- `stop`: further stop words; `determiners`: a capitalised word behind one is no name; `split`: what separates words
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import Literal, cast

import yaml

from resonance.retrieval.language_detection import language_scores
from resonance.retrieval.stop_words import stop_words

_FOLDER = "resonance.retrieval.languages"
How = Literal["anywhere", "start", "whole", "all"]
_SURE, _LIKELY = 0.7, 0.3  # probabilities of a language: taken at once; taken if it has a lexicon
_FEW = 4  # words; a shorter message is looked at together with those before it
_UNSPACED = frozenset(("ja", "zh", "th", "km", "lo", "my"))


class Lexicon:
    """The words of one language; of one without a file none but its stop words."""

    def __init__(self, language: str, fields: dict[str, str]) -> None:
        self.language = language
        self.spaced = language not in _UNSPACED
        self.known = bool(fields)
        self.fields = fields
        self._patterns: dict[tuple[str, How], re.Pattern[str]] = {}
        self.stop = (stop_words(language) | self.set("stop")) - self.set("keep")
        self._split = re.compile(fields["split"].strip(), re.I) if "split" in fields else None

    def set(self, field: str) -> frozenset[str]:
        """The entries of a field as plain words."""
        return frozenset(self.fields.get(field, "").replace("\n", "|").split("|")) - {""}

    def match(self, field: str, text: str, how: How = "anywhere") -> re.Match[str] | None:
        """Find the first entry of a field: anywhere, at the start, as the whole text; `all`: repeated."""
        pattern = self._patterns.get((field, how))
        if pattern is None:
            pattern = self._patterns[field, how] = self._compiled(field, how)
        return pattern.match(text) if how in ("start", "whole", "all") else pattern.search(text)

    def separated(self, text: str) -> str:
        """The text with spaces where the language joins words otherwise: `l'école`, `est-il`."""
        return text if self._split is None else self._split.sub(" ", text)

    def opens(self, word: str) -> bool:
        """Whether a capitalised word may start a sentence without being a name."""
        lower = word.lower()
        return lower in self.stop or any(
            self.match(field, lower, "whole")
            for field in ("questions", "asks", "work", "edit", "small_talk", "self", "ellipsis", "keep", "fresh")
        )

    def _compiled(self, field: str, how: How) -> re.Pattern[str]:
        entries = "|".join(line.strip() for line in self.fields.get(field, "").splitlines() if line.strip())
        if not entries:
            return re.compile(r"(?!)")
        word = rf"(?<!\w)(?:{entries})(?!\w)" if self.spaced else f"(?:{entries})"
        return re.compile(
            {
                "anywhere": word,
                "start": rf"\W*{word}",
                "whole": rf"\W*{word}\W*$",
                "all": rf"\W*(?:{word}\W*)+$",
            }[how],
            re.I,
        )


@cache
def lexicon(language: str) -> Lexicon:
    """The lexicon of a language (ISO 639-1)."""
    file = resources.files(_FOLDER) / f"{language}.yaml"
    fields = cast(dict[str, str], yaml.safe_load(file.read_text("utf-8"))) if file.is_file() else {}
    return Lexicon(language, fields)


@cache
def lexica() -> tuple[Lexicon, ...]:
    """The lexicon of each language that has a file."""
    files = (file.name for file in resources.files(_FOLDER).iterdir())
    return tuple(lexicon(name.removesuffix(".yaml")) for name in sorted(files) if name.endswith(".yaml"))


def lexicon_of(texts: Sequence[str]) -> Lexicon:
    """The lexicon of the newest of a user's messages; a short one is looked at together with those before it."""
    return _lexicon_of(tuple(texts[-3:]))


@lru_cache(maxsize=256)
def _lexicon_of(texts: tuple[str, ...]) -> Lexicon:
    newest = texts[-1]
    scores = language_scores(newest)
    if len(texts) > 1 and (not scores or scores[0][1] < _SURE or len(newest.split()) < _FEW):
        scores = language_scores(" ".join(texts)) or scores
    if scores and scores[0][1] >= _SURE:
        return lexicon(scores[0][0])
    for language, score in scores:
        if score >= _LIKELY and lexicon(language).known:
            return lexicon(language)
    english = newest.isascii() or not scores
    return lexicon("en" if english else scores[0][0])
