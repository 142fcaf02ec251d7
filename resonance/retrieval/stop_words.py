"""Stop words by language: our own for English, bm25s's for others."""

from collections.abc import Sequence
from functools import cache
from typing import cast


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
# bm25s's names of its lists, by language.
_LISTS = {
    "da": "DANISH", "de": "GERMAN", "es": "SPANISH", "fr": "FRENCH", "it": "ITALIAN", "ko": "KOREAN", "nl": "DUTCH",
    "no": "NORWEGIAN", "pt": "PORTUGUESE", "ru": "RUSSIAN", "sv": "SWEDISH", "tr": "TURKISH", "zh": "CHINESE",
}  # fmt: skip


@cache
def stop_words(language: str) -> frozenset[str]:
    """The stop words of a language (ISO 639-1); none where there is no list."""
    if language == "en":
        return STOPWORDS
    if language not in _LISTS:
        return frozenset()
    from bm25s import stopwords

    return frozenset(cast(Sequence[str], getattr(stopwords, f"STOPWORDS_{_LISTS[language]}")))
