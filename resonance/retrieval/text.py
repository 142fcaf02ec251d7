"""Splits text into the units of search: terms, sentences, sites."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import urlsplit

import Stemmer


def word_set(text: str) -> frozenset[str]:
    """The set of words in a text."""
    return frozenset(text.split())


# Stop words. Unlike bm25s's list, this one includes question words and contractions, which are frequent in questions.
STOPWORDS = word_set(
    """
    a about above after again all also am an and any are aren't as at be because been before being below between
    both but by can cannot could couldn't did didn't do does doesn't doing don't down during each few for from
    further had has have having he her here hers him his how i i'd i'll i'm i've if in into is isn't it it's its
    itself just let's me might more most must my no nor not of off on once only or other our out over own please
    same shall she should so some such tell than that that's the their them then there these they this those
    through to too under until up us very was we were what what's when where which while who whom whose why will
    with without would you you're your
    """
)
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


@lru_cache(maxsize=1)
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")


def terms(text: str) -> list[str]:
    """Stemmed lower-case content words, in order: the unit of every index and comparison."""
    if not text.isascii():  # people type "cafe" and find "café"; PDFs hold "ﬁlter" where they read "filter"
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text)))
    # "may" is a verb, "May" a month.
    found = [word.lower().replace("’", "'") for word in _WORD.findall(text) if word != "may"]
    kept = [word.removesuffix("'s") for word in found if word not in STOPWORDS]
    return _stemmer().stemWords(kept)


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
