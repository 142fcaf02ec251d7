"""BM25 over lists of terms, by bm25s: built, asked, and quiet."""

import logging
from collections.abc import Sequence
from typing import cast

import bm25s
import numpy as np
from numpy.typing import NDArray

from resonance.retrieval.text import terms

# What a question asks by more than what it asks about: "how long does the ferry take" is about a ferry.
_ASKING = frozenset(terms("long many much old far big tall deep high large fast heavy often take took"))
_WEIGHT_OF_ASKING = 0.3
# bm25s sets its own logger to DEBUG and so fills the log of whoever logs at all.
logging.getLogger("bm25s").setLevel(logging.WARNING)


def built(corpus: Sequence[list[str]]) -> bm25s.BM25:
    """The index of a corpus that has at least one term."""
    index = bm25s.BM25(method="lucene")
    index.index(list(corpus), show_progress=False)
    return index


def scores(index: bm25s.BM25, query: str) -> NDArray[np.float32] | None:
    """Each text's score, 0 where it shares no term with the query; None when the corpus knows none of its terms."""
    vocabulary = cast(dict[str, int], index.vocab_dict)
    known = [term for term in dict.fromkeys(terms(query)) if term in vocabulary]
    if not known:
        return None
    whole = np.asarray(index.get_scores(known), dtype=np.float32)
    about = [term for term in known if term not in _ASKING]
    if len(about) in (0, len(known)):
        return whole
    matter = np.asarray(index.get_scores(about), dtype=np.float32)
    return np.asarray(matter + _WEIGHT_OF_ASKING * (whole - matter), dtype=np.float32)
