"""Selects the sentences that answer a query, within a token budget.

Sentences are ranked by BM25 (bm25s), each with its document's title. Near-duplicates are dropped; a source gets a few
sentences, a site a few sources. The best are packed greedily into the prompt's format.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import cast

import bm25s
import numpy as np
from numpy.typing import NDArray

from resonance.retrieval.sanitize import clean, fenced
from resonance.retrieval.text import origin_of, query_terms, sentences, site_of, terms
from resonance.retrieval.types import Budget, Kind, Source, kind_of

_RANK_WEIGHT = 0.15  # of the provider's rank in a sentence's score: a tie-breaker
_SAME = 0.7  # share of common word pairs from which two sentences are duplicates
_COVERAGE = 0.25  # share of the query's terms that a document and its title must contain
# Minimum scores of a further source and a further sentence, relative to the best sentence: the highest values that lose
# no answer on the labelled corpora. A small model is easily misled by text beside the answer.
_RELATED = 0.5
_WORTH = 0.7
_LONGEST_SITE = 80  # characters
# Question terms that weigh less than the topic: "how long does the ferry take" is about a ferry.
_QUESTION_TERMS = frozenset(terms("long many much old far big tall deep high large fast heavy often take took"))
_QUESTION_TERM_WEIGHT = 0.3
# bm25s sets its logger to DEBUG, which would fill an application's log.
logging.getLogger("bm25s").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Document:
    """The cleaned text of one hit, with title, URL, the provider's rank and the text's language."""

    title: str
    url: str
    text: str
    rank: int
    language: str = "en"


@dataclass(frozen=True, slots=True)
class _Sentence:
    document: int
    position: int
    text: str
    score: float


def rank(query: str, documents: Sequence[Document], budget: Budget) -> list[Source]:
    """The best sources for `query`, best first, numbered from 1; a passage is a few sentences in original order."""
    scored = _relevant(query, _distinct(_score(query, documents), documents), documents)
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
        if origins[origin] < budget.per_site:
            chosen[sentence.document] = [sentence]
            origins[origin] += 1
    chosen = {index: chosen[index] for index in _shared_places(list(chosen), documents, budget.max_sources)}
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


def _shared_places(best_first: Sequence[int], documents: Sequence[Document], places: int) -> list[int]:
    """The documents that get one of the places, best first: pages and own documents half each, or what is there."""
    by_kind: dict[Kind, list[int]] = {}
    for index in best_first:
        by_kind.setdefault(kind_of(documents[index].url), []).append(index)
    turns = zip_longest(*by_kind.values())
    taken = [index for turn in turns for index in turn if index is not None][:places]
    return [index for index in best_first if index in taken]


def pack(sources: Sequence[Source], budget_tokens: int, count_tokens: Callable[[str], int]) -> tuple[list[Source], str]:
    """Pack as many sources as fit, best first; a passage may be cut at a sentence or word boundary.

    Web pages and documents get half of the tokens each; what one does not need is the other's. Returns the packed
    sources, with passages as in the context, and the context of at most `budget_tokens` tokens.
    """
    by_kind: dict[Kind, list[Source]] = {}
    for source in sources:
        by_kind.setdefault(source.kind, []).append(source)
    if len(by_kind) < 2:
        return _packed(sources, budget_tokens, count_tokens)
    better, other = by_kind.values()
    reserved = count_tokens(_packed(other, budget_tokens // 2, count_tokens)[1]) + 1
    first, context = _packed(better, budget_tokens - reserved, count_tokens)
    second, _ = _packed(other, budget_tokens - count_tokens(context) - 1, count_tokens)
    order = {source.url: place for place, source in enumerate(sources)}
    merged = sorted((*first, *second), key=lambda source: (-source.score, order[source.url]))
    while True:
        merged = [replace(source, id=number) for number, source in enumerate(merged, start=1)]
        context = context_of(merged)
        if count_tokens(context) <= budget_tokens or not merged:
            return merged, context
        merged.pop()


def _packed(
    sources: Sequence[Source], budget_tokens: int, count_tokens: Callable[[str], int]
) -> tuple[list[Source], str]:
    """`pack` for sources of one kind."""
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
        kept.append(replace(source, id=len(kept) + 1, passage=passage))
        lines.append(_line(len(kept), source, passage))
    return kept, "\n".join(lines)


def context_of(sources: Sequence[Source]) -> str:
    """Sources in the format of the training data: `[1] Title (site): text`, one line per source.

    In a web page's title and text, what looks like an order stands in a fence.
    """
    return "\n".join(_line(source.id, source, source.passage) for source in sources)


def _line(number: int, source: Source, passage: str) -> str:
    title = source.title
    if source.kind == "web":
        title, passage = fenced(title), fenced(passage)
    return f"[{number}] {title} ({source.site}): {passage}"


def _shortened(
    source: Source, number: int, lines: list[str], budget_tokens: int, count_tokens: Callable[[str], int]
) -> str:
    """The most leading sentences that fit; for the first source, else the most leading words."""

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
    # Fewer than six words are useless; their tokens are better left to the answer.
    return " ".join(words[:low]) + " …" if low >= 6 and not lines else ""


def _score(query: str, documents: Sequence[Document]) -> list[_Sentence]:
    """The sentences that share a term with the query, best first."""
    units = [
        (index, position, sentence)
        for index, document in enumerate(documents)
        for position, sentence in enumerate(sentences(document.text))
    ]
    # Each sentence is indexed with its title: on a page about the topic, a sentence need not name it.
    corpus = [terms(f"{documents[index].title} {sentence}", documents[index].language) for index, _, sentence in units]
    languages = dict.fromkeys(document.language for document in documents)
    scores = bm25_scores(bm25_index(corpus), query, languages) if any(corpus) else None
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


def _distinct(scored: list[_Sentence], documents: Sequence[Document]) -> list[_Sentence]:
    """Remove sentences that duplicate a better one."""
    kept: list[_Sentence] = []
    seen: list[frozenset[tuple[str, str]]] = []
    for sentence in scored[:200]:
        words = terms(sentence.text, documents[sentence.document].language)
        pairs = frozenset(zip(["", *words], [*words, ""], strict=True))
        if any(len(pairs & other) >= _SAME * min(len(pairs), len(other)) for other in seen):
            continue
        seen.append(pairs)
        kept.append(sentence)
    return kept


def _relevant(query: str, scored: list[_Sentence], documents: Sequence[Document]) -> list[_Sentence]:
    """Remove documents that contain too few of the query's terms: a small model answers from any text it is given."""
    wanted = {document.language: set(terms(query, document.language)) for document in documents}
    covered = [
        len(wanted[document.language] & set(terms(f"{document.title} {document.text}", document.language)))
        >= _COVERAGE * len(wanted[document.language])
        for document in documents
    ]
    return [sentence for sentence in scored if covered[sentence.document]]


def _site(url: str) -> str:
    """The site as shown in the prompt, cleaned because a file name is untrusted too."""
    return clean(site_of(url))[:_LONGEST_SITE] or "unnamed"


def _passage(picked: list[_Sentence]) -> str:
    return " ".join(sentence.text for sentence in sorted(picked, key=lambda sentence: sentence.position))


def bm25_index(corpus: Sequence[list[str]]) -> bm25s.BM25:
    """Build the BM25 index of a corpus with at least one term."""
    index = bm25s.BM25(method="lucene")
    index.index(list(corpus), show_progress=False)
    return index


def bm25_scores(index: bm25s.BM25, query: str, languages: Iterable[str] = ("en",)) -> NDArray[np.float32] | None:
    """Each text's score, 0 if it shares no term with the query; None if the corpus has none of the query's terms.

    `languages`: those in which the texts' terms were made.
    """
    vocabulary = cast(dict[str, int], index.vocab_dict)
    known = [term for term in query_terms(query, languages) if term in vocabulary]
    if not known:
        return None
    whole = np.asarray(index.get_scores(known), dtype=np.float32)
    about = [term for term in known if term not in _QUESTION_TERMS]
    if len(about) in (0, len(known)):
        return whole
    matter = np.asarray(index.get_scores(about), dtype=np.float32)
    return np.asarray(matter + _QUESTION_TERM_WEIGHT * (whole - matter), dtype=np.float32)
