"""Splits text into the units of search: terms, sentences, sites."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from urllib.parse import urlsplit

import Stemmer

from resonance.retrieval.stop_words import STOPWORDS, stop_words

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*(?:[.,]\d+)*", re.UNICODE)
_ACCENTS = re.compile("[\u0300-\u036f]+")
# A sentence ends at . ! ? … (and quotes or brackets behind it) before a capital, a digit, a quote or a
# script without case; abbreviations and initials are rejoined below.
_BOUNDARY = re.compile(r"[.!?…][\"'”’)\]]*(\s+)(?=[\"'“‘(\[]?[^\Wa-z_])|[。！？]()|(\s+[|•·]\s+)")
_ABBREVIATION = re.compile(
    r"(?<![^\s(])(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|St|Sr|Jr|vs|etc|No|Nos|Fig|Figs|Vol|pp|ca|approx|e\.g|i\.e|al|Inc|Ltd|Co"
    r"|Corp|Gen|Col|Sgt|Capt|Lt|Rev|Hon|Mt|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|U\.S|U\.K)\.$"
)
_LONGEST = 8  # characters of an abbreviation with its full stop, at most


# Snowball's stemmers, by language.
_STEMMERS = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian",
    "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
_ELIDED = re.compile(r"\b(?:[ldjmtsnc]|qu|un|dell|nell|all|dall|sull|quell)['’](?=\w)", re.I)
# Scripts without spaces, and Korean, whose words carry their particles: pairs of characters are compared.
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


@lru_cache
def _stemmer(language: str) -> "Stemmer.Stemmer | None":
    name = _STEMMERS.get(language)
    return Stemmer.Stemmer(name) if name in Stemmer.algorithms() else None


def terms(text: str, language: str = "en") -> list[str]:
    """Stemmed lower-case content words, in order: the unit of every index and comparison.

    Stop words and stems are those of `language` (ISO 639-1). Scripts without spaces give pairs of characters.
    """
    if language != "en":
        return _terms_of(text, language)
    if not text.isascii():  # people type "cafe" and find "café"; PDFs hold "ﬁlter" where they read "filter"
        text = _without_accents(text)
    # "may" is a verb, "May" a month.
    found = [word.lower().replace("’", "'") for word in _WORD.findall(text) if word != "may"]
    kept = [word.removesuffix("'s") for word in _paired(found) if word not in STOPWORDS]
    stemmer = _stemmer("en")
    return kept if stemmer is None else stemmer.stemWords(kept)


def _terms_of(text: str, language: str) -> list[str]:
    """`terms` in another language than English: accents are removed behind the stemmer, which needs them."""
    if language in ("fr", "it", "ca"):
        text = _ELIDED.sub(" ", text)
    found = [word.lower() for word in _WORD.findall(unicodedata.normalize("NFKC", text))]
    stop = stop_words(language)
    kept = [word for word in _paired(found) if word not in stop]
    stemmer = _stemmer(language)
    stems = kept if stemmer is None else stemmer.stemWords(kept)
    return [stem if stem.isascii() else _without_accents(stem) for stem in stems]


def query_terms(query: str, languages: Iterable[str]) -> list[str]:
    """The distinct terms of a query for documents in these languages."""
    return list(dict.fromkeys(term for language in languages for term in terms(query, language)))


def _without_accents(text: str) -> str:
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text)))


def _paired(words: list[str]) -> Iterator[str]:
    """The words; runs of scripts without spaces as their pairs of neighbouring characters."""
    for word in words:
        if word.isascii() or _UNSPACED.search(word) is None:
            yield word
            continue
        for run in re.findall(rf"{_UNSPACED.pattern}|[^\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+", word):
            if len(run) == 1 or not _UNSPACED.match(run):
                yield run
            else:
                yield from map("".join, pairwise(run))


def sentences(text: str, *, longest: int = 400) -> list[str]:
    """Sentences in order; those longer than `longest` characters are split at white space."""
    return [part for start, end in sentence_spans(text) for part in _cut(text[start:end], longest)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """The (start, end) offsets of each sentence, without surrounding space."""
    spans: list[tuple[int, int]] = []
    for first, last in _pieces(text):
        piece = text[first:last]
        start, end = last - len(piece.lstrip()), first + len(piece.rstrip())
        if start >= end:
            continue
        if spans and _ABBREVIATION.search(text, max(spans[-1][0], spans[-1][1] - _LONGEST), spans[-1][1]):
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for boundary in _BOUNDARY.finditer(text):
        space = boundary.lastindex or 0
        yield start, boundary.start(space)
        start = boundary.end(space)
    yield start, len(text)


def _cut(sentence: str, longest: int) -> list[str]:
    parts: list[str] = []
    start = 0
    while len(sentence) - start > longest:
        at = sentence.rfind(" ", start + longest // 2, start + longest)
        at = at if at > 0 else start + longest
        parts.append(sentence[start:at].strip())
        start = at
        while start < len(sentence) and sentence[start].isspace():
            start += 1
    return [*parts, sentence[start:]] if start < len(sentence) else parts


def site_of(url: str) -> str:
    """A URL's host without `www.`, in ASCII (punycode); a file path's name."""
    origin = origin_of(url)
    return origin if "://" in url else origin.rsplit("/", 1)[-1]


def origin_of(url: str) -> str:
    """The key by which sources count as one origin: a URL's host, as in `site_of`, or a file's path."""
    if "://" not in url:
        return url
    try:
        host = urlsplit(url).hostname or ""
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except ValueError:  # an invalid URL or host
        host = ""
    return host.removeprefix("www.")
