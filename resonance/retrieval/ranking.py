"""The sentences that answer a query, out of everything that was found, within a budget of tokens.

BM25 (bm25s) over sentences, each indexed with its document's title; near-duplicates dropped; a few
sentences a source, a few sources a site; then packed greedily, best first, in the prompt's own form.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import bm25s
import numpy as np
from numpy.typing import NDArray

from resonance.retrieval.sanitize import sanitize
from resonance.retrieval.text import origin_of, sentences, site_of, terms
from resonance.retrieval.types import Budget, Source

# How much of a sentence's score its provider's order may add: a tie-breaker, not a vote.
_RANK_WEIGHT = 0.15
# Share of shared word pairs from which two sentences say the same.
_SAME = 0.7
# Share of the query's words that a document must hold, its title included.
_HELD = 0.25
# Shares of the best sentence's score from which a further source, and a further sentence, is worth its tokens: on the
# labelled corpora the highest that lose no answer; a small model mistakes what stands beside the answer for it.
_RELATED = 0.5
_WORTH = 0.7
_LONGEST_SITE = 80  # characters
# What a question asks by more than what it asks about: "how long does the ferry take" is about a ferry.
_ASKING = frozenset(terms("long many much old far big tall deep high large fast heavy often take took"))
_WEIGHT_OF_ASKING = 0.3
# bm25s sets its own logger to DEBUG and so fills the log of whoever logs at all.
logging.getLogger("bm25s").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Document:
    """Text of one hit, already harmless: title, url, the text to choose sentences from, the provider's rank."""

    title: str
    url: str
    text: str
    rank: int


@dataclass(frozen=True, slots=True)
class _Sentence:
    document: int
    position: int
    text: str
    score: float


def rank(query: str, documents: Sequence[Document], budget: Budget) -> list[Source]:
    """The best sources for `query`, best first, ids from 1, each passage a few sentences in their own order."""
    scored = _fitting(query, _distinct(_score(query, documents)), documents)
    if not scored:
        return []
    best = max(sentence.score for sentence in scored)
    chosen: dict[int, list[_Sentence]] = {}
    origins: Counter[str] = Counter()
    for sentence in scored:
        document = documents[sentence.document]
        taken = chosen.get(sentence.document)
        if taken is not None:
            if len(taken) < budget.sentences_per_source and sentence.score >= _WORTH * best:
                taken.append(sentence)
            continue
        origin = origin_of(document.url)
        if sentence.score < _RELATED * best:
            break
        if len(chosen) < budget.max_sources and origins[origin] < budget.per_site:
            chosen[sentence.document] = [sentence]
            origins[origin] += 1
    return [
        Source(
            id=number,
            title=documents[index].title,
            url=documents[index].url,
            site=_site(documents[index].url),
            passage=_passage(picked),
            score=round(picked[0].score, 4),
        )
        for number, (index, picked) in enumerate(chosen.items(), start=1)
    ]


def pack(sources: Sequence[Source], budget_tokens: int, count_tokens: Callable[[str], int]) -> tuple[list[Source], str]:
    """As many sources as fit, best first, and their context; a passage is cut at a sentence or word to fit.

    Returns the kept sources (passages as in the context) and the context, at most `budget_tokens` long.
    """
    kept: list[Source] = []
    lines: list[str] = []
    for source in sources:
        whole = _line(len(kept) + 1, source, source.passage)
        if count_tokens("\n".join([*lines, whole])) <= budget_tokens:
            passage = source.passage
        else:
            passage = _shortened(source, len(kept) + 1, lines, budget_tokens, count_tokens)
            if not passage:
                continue
        kept.append(Source(len(kept) + 1, source.title, source.url, source.site, passage, source.score))
        lines.append(_line(len(kept), source, passage))
    return kept, "\n".join(lines)


def context_of(sources: Sequence[Source]) -> str:
    """The numbered form that the model was trained on: `[1] Title (site): text`, one line a source."""
    return "\n".join(_line(source.id, source, source.passage) for source in sources)


def _line(number: int, source: Source, passage: str) -> str:
    return f"[{number}] {source.title} ({source.site}): {passage}"


def _shortened(
    source: Source, number: int, lines: list[str], budget_tokens: int, count_tokens: Callable[[str], int]
) -> str:
    """The longest run of whole sentences from the start that fits, else of words when it is a first source."""

    def fits(passage: str) -> bool:
        return count_tokens("\n".join([*lines, _line(number, source, passage)])) <= budget_tokens

    parts = sentences(source.passage)
    for count in range(len(parts) - 1, 0, -1):
        passage = " ".join(parts[:count])
        if fits(passage):
            return passage
    words = source.passage.split(" ")
    low, high = 0, len(words) - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(" ".join(words[:middle]) + " …") else (low, middle - 1)
    # Fewer than six words tell nothing; then the tokens are better left to the answer.
    return " ".join(words[:low]) + " …" if low >= 6 and not lines else ""


def _score(query: str, documents: Sequence[Document]) -> list[_Sentence]:
    """Every sentence that shares a word with the query, best first."""
    units = [
        (index, position, sentence)
        for index, document in enumerate(documents)
        for position, sentence in enumerate(sentences(document.text))
    ]
    # The title stands once before every sentence: a sentence of a page about the thing asked for need not name it.
    corpus = [terms(f"{documents[index].title} {sentence}") for index, _, sentence in units]
    scores = bm25_scores(bm25_index(corpus), query) if any(corpus) else None
    if scores is None:
        return []
    top = float(scores.max()) or 1.0
    found = [
        _Sentence(
            document,
            position,
            text,
            float(score) / top + _RANK_WEIGHT / (1 + documents[document].rank),
        )
        for (document, position, text), score in zip(units, scores, strict=True)
        if score > 0
    ]
    return sorted(found, key=lambda sentence: (-sentence.score, sentence.document, sentence.position))


def _distinct(scored: list[_Sentence]) -> list[_Sentence]:
    """Without the sentences that repeat a better one."""
    kept: list[_Sentence] = []
    seen: list[frozenset[tuple[str, str]]] = []
    for sentence in scored[:200]:
        words = terms(sentence.text)
        pairs = frozenset(zip(["", *words], [*words, ""], strict=True))
        if any(len(pairs & other) >= _SAME * min(len(pairs), len(other)) for other in seen):
            continue
        seen.append(pairs)
        kept.append(sentence)
    return kept


def _fitting(query: str, scored: list[_Sentence], documents: Sequence[Document]) -> list[_Sentence]:
    """Without the documents that hold too few of the query's words: a small model answers from whatever it is given."""
    wanted = set(terms(query))
    held = [set(terms(f"{document.title} {document.text}")) & wanted for document in documents]
    return [sentence for sentence in scored if len(held[sentence.document]) >= _HELD * len(wanted)]


def _site(url: str) -> str:
    """The site as the prompt names it: a file's name is foreign text too."""
    return sanitize(site_of(url))[:_LONGEST_SITE] or "unnamed"


def _passage(picked: list[_Sentence]) -> str:
    return " ".join(sentence.text for sentence in sorted(picked, key=lambda sentence: sentence.position))


def bm25_index(corpus: Sequence[list[str]]) -> bm25s.BM25:
    """The index of a corpus that has at least one term."""
    index = bm25s.BM25(method="lucene")
    index.index(list(corpus), show_progress=False)
    return index


def bm25_scores(index: bm25s.BM25, query: str) -> NDArray[np.float32] | None:
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
