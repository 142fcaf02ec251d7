"""Retrieval metrics on small labelled corpora: recall, reciprocal rank, nDCG, context recall.

Each corpus in `corpora/` is a folder of documents with `questions.jsonl`: `prose/` is ordinary text, `plain/` has short
sentences with one fact each, `familiar/` uses the sentences and words of the built-in training data, for models that
know no others. None of the documents is in the training data. A question names the document that answers it and the
words of the answer in it; both are null if no document does.
"""

import asyncio
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resonance.chat_template import Message
from resonance.retrieval.citations import align
from resonance.retrieval.documents.passages import read_passages
from resonance.retrieval.documents.provider import Documents
from resonance.retrieval.factory import build_retriever
from resonance.retrieval.index import Index
from resonance.retrieval.query_rewriting import standalone_query
from resonance.retrieval.text import sentences
from resonance.retrieval.types import Retrieved, SearchError

CORPORA = Path(__file__).parent / "corpora"
PROSE, PLAIN, FAMILIAR = CORPORA / "prose", CORPORA / "plain", CORPORA / "familiar"
RANKED = 20  # passages whose ranking is scored
RANK_METRICS = ("recall@1", "recall@3", "recall@5", "mrr", "ndcg@10", "context_recall")


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question, the document that answers it, and the words of the answer in it; None if no document does."""

    question: str
    document: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class RetrievalOutcome:
    """The retrieval for one question.

    `kind` is the corpus, `sentence` the document's sentence that contains the answer, `ranks` the question's recall,
    reciprocal rank, nDCG and context recall. If no document answers the question, `answer` and `sentence` are None and
    `ranks` is empty.
    """

    question: str
    answer: str | None
    kind: str
    sentence: str | None
    ranks: dict[str, float]
    retrieved: Retrieved

    @property
    def context(self) -> str:
        """The numbered sources as they stand in the prompt."""
        return self.retrieved.context

    def citations(self, text: str) -> tuple[int, int]:
        """The number of citations in `text` whose source supports their sentence, and the number of citations.

        A number that no source has counts as unsupported.
        """
        return align(text, self.retrieved.sources, keep_unknown=True).citations()


@dataclass(frozen=True, slots=True)
class LabelledRetrieval:
    """Retrieval as the server does it, over the corpora in `kinds`.

    Args:
        budget_tokens: token budget of the sources in a prompt.
        kinds: names of corpora: familiar, plain, prose.
    """

    budget_tokens: int = 380
    kinds: Sequence[str] = ("familiar", "plain", "prose")

    def __post_init__(self) -> None:
        """Raise SearchError for an unknown corpus."""
        for kind in self.kinds:
            if kind not in _FOLDERS:
                raise SearchError(f"There is no labelled corpus {kind!r}; there are {', '.join(_FOLDERS)}.")

    def questions(self) -> list[tuple[str, LabelledQuestion]]:
        """Every question after its corpus, in a fixed order."""
        return [(kind, labelled) for kind in self.kinds for labelled in labelled_questions(_FOLDERS[kind])]

    def outcomes(self, count_tokens: Callable[[str], int]) -> list[RetrievalOutcome]:
        """Every question's outcome, in the order of `questions`."""
        return [
            outcome
            for kind in self.kinds
            for outcome in _outcomes(kind, _FOLDERS[kind], count_tokens, self.budget_tokens)
        ]


_FOLDERS = {"familiar": FAMILIAR, "plain": PLAIN, "prose": PROSE}


def labelled_questions(folder: Path = PROSE) -> list[LabelledQuestion]:
    """The labelled questions of a corpus, from its `questions.jsonl`."""
    lines = (folder / "questions.jsonl").read_text("utf-8").splitlines()
    return [LabelledQuestion(**json.loads(line)) for line in lines]


def recall_at(k: int, ranking: Sequence[str], relevant: str) -> float:
    """1.0 when the relevant document is among the first `k`, else 0.0."""
    return float(relevant in list(dict.fromkeys(ranking))[:k])


def reciprocal_rank(ranking: Sequence[str], relevant: str) -> float:
    """One over the relevant document's rank (from 1); 0.0 when it is missing."""
    ranks = list(dict.fromkeys(ranking))
    return 1.0 / (ranks.index(relevant) + 1) if relevant in ranks else 0.0


def ndcg_at(k: int, ranking: Sequence[str], relevant: str) -> float:
    """Normalised discounted cumulative gain with the one relevant document's gain 1 (Järvelin and Kekäläinen 2002)."""
    ranks = list(dict.fromkeys(ranking))[:k]
    return 1.0 / math.log2(ranks.index(relevant) + 2) if relevant in ranks else 0.0


def _outcomes(
    kind: str, folder: Path, count_tokens: Callable[[str], int], budget_tokens: int
) -> list[RetrievalOutcome]:
    with tempfile.TemporaryDirectory() as index:
        provider = Documents(Index(folder, Path(index)), refresh_s=3600.0)
        retriever = build_retriever("documents", path=str(folder), index=index, when="always")
        assert retriever is not None

        async def one(labelled: LabelledQuestion) -> RetrievalOutcome:
            messages = [Message("user", labelled.question)]
            hits = await provider.search(standalone_query(messages), RANKED, "", None)
            found = await retriever.retrieve(messages, budget_tokens=budget_tokens, count_tokens=count_tokens)
            return RetrievalOutcome(
                question=labelled.question,
                answer=labelled.answer,
                kind=kind,
                sentence=_sentence(folder, labelled),
                ranks=_ranks(labelled, [hit.url for hit in hits], found.context),
                retrieved=found,
            )

        async def every() -> list[RetrievalOutcome]:
            return [await one(labelled) for labelled in labelled_questions(folder)]

        return asyncio.run(every())


def _ranks(labelled: LabelledQuestion, ranking: Sequence[str], context: str) -> dict[str, float]:
    if labelled.document is None or labelled.answer is None:
        return {}
    return {
        **{f"recall@{k}": recall_at(k, ranking, labelled.document) for k in (1, 3, 5)},
        "mrr": reciprocal_rank(ranking, labelled.document),
        "ndcg@10": ndcg_at(10, ranking, labelled.document),
        "context_recall": float(labelled.answer in context),
    }


def _sentence(folder: Path, labelled: LabelledQuestion) -> str | None:
    if labelled.document is None or labelled.answer is None:
        return None
    path = folder / labelled.document
    passages = read_passages(path, path.read_bytes())
    candidates = (sentence for passage in passages for sentence in sentences(passage.text))
    return next((sentence for sentence in candidates if labelled.answer in sentence), None)
