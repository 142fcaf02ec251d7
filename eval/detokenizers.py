"""Undo the tokenisation of older data sets, so that their text reads like the text that models were trained on.

GPT-2's figures on such data were measured after de-tokenising (Radford et al. 2019, section 3.1); the original
tokens remain the unit of the perplexity. Each function takes and returns one line.
"""

import re
from collections.abc import Callable, Mapping

from eval import EvalError

Detokenizer = Callable[[str], str]

_WIKITEXT_INFIX = re.compile(r" @([-,.])@ ")
_WIKITEXT_HEADING = re.compile(r"^ ?(=(?: =)*) (.*?) (=(?: =)*) ?$")
_CONTRACTION = re.compile(r" (n't|'(?:s|t|re|ve|ll|d|m))\b", re.IGNORECASE)
_CLOSING = re.compile(r" ([,.;:!?%)\]}])")
_OPENING = re.compile(r"([(\[{$£]) ")
_QUOTED = re.compile(r'" ([^"]+?) "')
_TREEBANK_OPENING, _TREEBANK_CLOSING = re.compile(r"`` ?"), re.compile(r" ?''")


def wikitext(line: str) -> str:
    """WikiText's: `@-@` inside words and numbers, spaces around punctuation and quotes, `= = Headings = =`."""
    if heading := _WIKITEXT_HEADING.match(line):
        marks, title, _ = heading.groups()
        marks = marks.replace(" ", "")
        return f"{marks} {_words(title)} {marks}"
    return _words(_WIKITEXT_INFIX.sub(r"\1", line))


def treebank(line: str) -> str:
    """The Penn Treebank's, which LAMBADA uses: also quotes written as two backticks and two apostrophes."""
    line = _TREEBANK_CLOSING.sub('"', _TREEBANK_OPENING.sub('"', line))
    return _words(line)


def _words(line: str) -> str:
    line = _OPENING.sub(r"\1", _CLOSING.sub(r"\1", _CONTRACTION.sub(r"\1", line)))
    return _QUOTED.sub(r'"\1"', line)


DETOKENIZERS: Mapping[str, Detokenizer] = {"wikitext": wikitext, "treebank": treebank}


def detokenizer(name: str | None) -> Detokenizer:
    """The function of that name; None changes nothing. Raises EvalError for an unknown name."""
    if name is None:
        return _unchanged
    try:
        return DETOKENIZERS[name]
    except KeyError:
        raise EvalError(
            f"There is no detokenizer {name!r}; choose one of {', '.join(DETOKENIZERS)}, or null for none."
        ) from None


def _unchanged(line: str) -> str:
    return line
