"""How good retrieval is on a small labelled corpus: recall, reciprocal rank, discounted gain, answers in context.

The corpus (`labelled/`: documents and questions of this project's own) holds for each question the one
document, and the words in it, that answer it.
"""

import asyncio
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resonance.chat import Message
from serve.rag.build import build_retriever
from serve.rag.documents import Documents
from serve.rag.index import Index
from serve.rag.query import standalone_query

LABELLED = Path(__file__).parent / "labelled"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question, the document that answers it, and words of the answer in it."""

    question: str
    document: str
    answer: str


def labelled_questions(folder: Path = LABELLED) -> list[Labelled]:
    """The labelled questions of a corpus, from its `questions.jsonl`."""
    lines = (folder / "questions.jsonl").read_text("utf-8").splitlines()
    return [Labelled(**json.loads(line)) for line in lines]


def recall_at(k: int, ranking: Sequence[str], relevant: str) -> float:
    """1.0 when the relevant document is among the first `k`, else 0.0."""
    return float(relevant in list(dict.fromkeys(ranking))[:k])


def reciprocal_rank(ranking: Sequence[str], relevant: str) -> float:
    """One over the relevant document's place (from 1); 0.0 when it is not there."""
    places = list(dict.fromkeys(ranking))
    return 1.0 / (places.index(relevant) + 1) if relevant in places else 0.0


def ndcg_at(k: int, ranking: Sequence[str], relevant: str) -> float:
    """Normalised discounted cumulative gain with the one relevant document's gain 1 (Järvelin and Kekäläinen 2002)."""
    places = list(dict.fromkeys(ranking))[:k]
    return 1.0 / math.log2(places.index(relevant) + 2) if relevant in places else 0.0


def score_retrieval(
    count_tokens: Callable[[str], int], *, folder: Path = LABELLED, budget_tokens: int = 380
) -> dict[str, float]:
    """Scores of the documents provider and of the whole retrieval on a labelled corpus.

    `recall@k`, `mrr` and `ndcg@10` are the provider's ranking of documents; `context_recall` is the share of
    questions whose answer stands in the context of `budget_tokens` tokens, `context_tokens` its mean length.
    """
    questions = labelled_questions(folder)
    with tempfile.TemporaryDirectory() as index:
        provider = Documents(Index(folder, Path(index)), refresh_s=3600.0)
        retriever = build_retriever("documents", path=str(folder), index=index, when="always")
        assert retriever is not None

        async def one(labelled: Labelled) -> tuple[list[str], str]:
            messages = [Message("user", labelled.question)]
            hits = await provider.search(standalone_query(messages), 20, "", None)
            found = await retriever.retrieve(messages, budget_tokens=budget_tokens, count_tokens=count_tokens)
            return [hit.url for hit in hits], found.context

        async def every() -> list[tuple[list[str], str]]:
            return [await one(labelled) for labelled in questions]

        outcomes = asyncio.run(every())
    pairs = [(ranking, labelled.document) for (ranking, _), labelled in zip(outcomes, questions, strict=True)]
    contexts = [context for _, context in outcomes]
    held = [labelled.answer in context for labelled, context in zip(questions, contexts, strict=True)]
    return {
        **{f"recall@{k}": _mean([recall_at(k, *pair) for pair in pairs]) for k in (1, 3, 5)},
        "mrr": _mean([reciprocal_rank(*pair) for pair in pairs]),
        "ndcg@10": _mean([ndcg_at(10, *pair) for pair in pairs]),
        "context_recall": _mean([float(found) for found in held]),
        "context_tokens": _mean([float(count_tokens(context)) for context in contexts]),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
