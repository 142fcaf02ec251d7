"""How an answer is compared with the expected one; knows text, not models.

An exact match asks for the same words in the same case with the same punctuation: the tasks have definite
answers, and their form is part of what is trained. Only what nobody can see is forgiven (Unicode's several
spellings of one character, and white space). The softer measures compare bags and orders of words.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+", re.UNICODE)


def normalise(text: str) -> str:
    """The form in which answers are compared: NFC, ends stripped, runs of white space made one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def words(text: str) -> list[str]:
    """The words of a text for the soft measures: NFC, case-folded, without punctuation."""
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def exact_match(answer: str, expected: str) -> float:
    """1.0 when both are equal after `normalise`, else 0.0; case and punctuation count."""
    return float(normalise(answer) == normalise(expected))


def token_f1(answer: str, expected: str) -> float:
    """Harmonic mean of precision and recall over the bags of words, in [0, 1].

    As in SQuAD (Rajpurkar et al. 2016, section 6.1), but articles are kept. Two texts without any word
    score 1.0 when they match exactly, else 0.0.
    """
    ours, theirs = words(answer), words(expected)
    if not ours or not theirs:
        return exact_match(answer, expected)
    return _f1((Counter(ours) & Counter(theirs)).total(), len(ours), len(theirs))


def rouge_l(answer: str, expected: str) -> float:
    """F-measure of the longest common subsequence of words, in [0, 1] (Lin 2004, section 3.1, beta 1)."""
    ours, theirs = words(answer), words(expected)
    if not ours or not theirs:
        return exact_match(answer, expected)
    return _f1(_longest_common_subsequence(ours, theirs), len(ours), len(theirs))


def _f1(common: int, ours: int, theirs: int) -> float:
    """2PR / (P + R) with P = common / ours and R = common / theirs."""
    return 2 * common / (ours + theirs)


def _longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest sequence of words found in both, in order, gaps allowed; O(len x len)."""
    lengths = [0] * (len(right) + 1)
    for word in left:
        diagonal = 0
        for column, other in enumerate(right, start=1):
            above = lengths[column]
            lengths[column] = diagonal + 1 if word == other else max(above, lengths[column - 1])
            diagonal = above
    return lengths[-1]
