"""Text metrics: how an answer is compared with the expected one.

Exact match requires the same words in the same case with the same punctuation: the tasks have definite answers, and
their form is part of what is trained. It ignores only invisible differences (Unicode normalisation forms and white
space). Token F1 and ROUGE-L compare words, chrF runs of characters, and give partial credit.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Protocol

_WORD = re.compile(r"\w+", re.UNICODE)


def normalise(text: str) -> str:
    """The text in NFC, stripped, with each run of white space replaced by one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def words(text: str) -> list[str]:
    """The words of a text: NFC, case-folded, without punctuation."""
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def exact_match(answer: str, expected: str) -> float:
    """1.0 if both are equal after `normalise`, else 0.0; case and punctuation count."""
    return float(normalise(answer) == normalise(expected))


def token_f1(answer: str, expected: str) -> float:
    """Harmonic mean of precision and recall over the bags of words, in [0, 1].

    As in SQuAD (Rajpurkar et al. 2016, section 6.1), but articles are kept. Texts without words score by exact match.
    """
    answer_words, expected_words = words(answer), words(expected)
    if not answer_words or not expected_words:
        return exact_match(answer, expected)
    common = (Counter(answer_words) & Counter(expected_words)).total()
    return 2 * common / (len(answer_words) + len(expected_words))


def rouge_l(answer: str, expected: str) -> float:
    """F-measure of the longest common subsequence of words, in [0, 1] (Lin 2004, section 3.1, beta 1).

    Texts without words score by exact match.
    """
    if not words(answer) or not words(expected):
        return exact_match(answer, expected)
    return _rouge_scorer().score(expected, answer)["rougeL"].fmeasure


def chrf(answer: str, expected: str) -> float:
    """F-score (beta 2) of character n-grams up to 6 of one answer, in [0, 1] (Popović 2015); white space is ignored.

    Computed by sacreBLEU with its defaults, on texts in NFC. An empty text scores by exact match.
    """
    answer, expected = normalise(answer), normalise(expected)
    if not answer or not expected:
        return exact_match(answer, expected)
    return _chrf_scorer().sentence_score(answer, [expected]).score / 100


class _RougeScore(Protocol):
    fmeasure: float


class _RougeScorer(Protocol):
    def score(self, target: str, prediction: str) -> dict[str, _RougeScore]: ...


class _Words:
    """`words` as a tokenizer of rouge-score, whose own drops all letters beyond ASCII."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


class _Score(Protocol):
    score: float


class _ChrfScorer(Protocol):
    def sentence_score(self, hypothesis: str, references: Sequence[str]) -> _Score: ...


@cache
def _chrf_scorer() -> _ChrfScorer:
    from sacrebleu.metrics.chrf import CHRF  # imports lxml, and other packages that only evaluation needs

    return CHRF()


@cache
def _rouge_scorer() -> _RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer  # imports NLTK, which takes most of a second

    return RougeScorer(["rougeL"], tokenizer=_Words())
