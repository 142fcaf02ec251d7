"""Retrieval-augmented answers: with and without sources, their citations, and questions that no document answers."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.retrieval_metrics import RANK_METRICS, LabelledQuestion, LabelledRetrieval, RetrievalOutcome
from eval.tasks.base import DOES_NOT_FIT, Item, MetricSpec, Record, in_chunks, item_id, overflow_note, prompt_hash
from eval.text_metrics import words
from resonance.chat_template import ContextOverflow, Message
from resonance.engine import SamplingParams

_BATCHES_PER_CALL = 4  # large enough for the engine to refill free slots, small enough to save records often
_CITATION = re.compile(r"\s?\[[\d,\s]+\]")
_SOURCE_NOUN = r"(?:sources?|documents?|texts?|context|passages?|notes?|results?|information)"
_DECLINES = re.compile(
    rf"\b{_SOURCE_NOUN}\b[^.!?]*(?:\bnot\b|n't\b|\bno\b|\bnothing\b|\bnone\b)"
    rf"|(?:\bnot\b|n't\b|\bno\b|\bnone\b|\bnothing\b)[^.!?]*\b{_SOURCE_NOUN}\b"
    r"|\b(?:I|we) (?:do not|don't|cannot|can't|could not|couldn't) (?:know|say|tell|find|answer)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Rag:
    """Greedy answers to questions about documents, with retrieved sources and without.

    - `correct` (overall, and by corpus with the absent ones apart): the answer contains the expected one, or says that
      the sources do not contain it when they do not.
    - `contains`, `contains_without_sources`: the model's answer contains the words of the expected answer.
    - `exact_match`: with sources, the answer is the expected one, or the sentence that contains it, and nothing else.
    - `says_when_absent`: the model says that the sources do not contain the answer, when they do not;
      `says_so_wrongly`: when they do.
    - `citation_precision`: the share of citations whose source supports the citing sentence.
    - `retrieval`: recall@k, MRR and nDCG of the ranking of documents, and `context_recall`, the share of questions
      whose answer is in the retrieved context, an upper bound for `contains`.

    Questions about one document are a cluster.
    """

    retrieval: LabelledRetrieval
    max_new_tokens: int
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = False

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """The metrics above."""
        share = MetricSpec("proportion", share=True)
        return {
            "contains": share,
            "exact_match": share,
            "contains_without_sources": share,
            "says_when_absent": share,
            "says_so_wrongly": MetricSpec("proportion", share=True, higher_is_better=False),
            "citation_precision": MetricSpec("ratio", share=True),
            "correct": MetricSpec("proportion", share=True, by_group=True),
            **{f"retrieval.{name}": MetricSpec("mean", share=True) for name in RANK_METRICS},
        }

    def items(self, examples: Sequence[Example]) -> Sequence[Item[LabelledQuestion]]:
        """One item per labelled question; `examples` is not used."""
        return [
            Item(
                id=_id(kind, labelled),
                content=labelled,
                text="\n".join(part for part in (labelled.question, labelled.answer) if part),
                group=kind if labelled.answer is not None else "absent",
                cluster=labelled.document and f"{kind}/{labelled.document}",
            )
            for kind, labelled in self.retrieval.questions()
        ]

    def run(self, model: EvaluatedModel, items: Sequence[Item[LabelledQuestion]]) -> Iterator[Record]:
        """Retrieve, answer and score."""
        outcomes = {
            _id(kind, labelled): outcome
            for (kind, labelled), outcome in zip(
                self.retrieval.questions(),
                self.retrieval.outcomes(lambda text: len(model.tokenizer.encode(text))),
                strict=True,
            )
        }
        for chunk in in_chunks(items, model.batch_size * _BATCHES_PER_CALL):
            found = [outcomes[item.id] for item in chunk]
            sourced = [self._prompt(model, Message("user", each.question, each.context or None)) for each in found]
            bare = [self._prompt(model, Message("user", each.question)) for each in found]
            answers, baselines = self._answers(model, sourced), self._answers(model, bare)
            for item, outcome, prompt, answer, baseline in zip(chunk, found, sourced, answers, baselines, strict=True):
                yield _record(item, _GradedAnswer(outcome, answer or "", baseline or ""), prompt)

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """The number of questions that do not fit with their sources."""
        return overflow_note(records, "questions with their sources", "count as wrong")

    def _answers(self, model: EvaluatedModel, prompts: Sequence[list[int] | None]) -> list[str | None]:
        """The answer to each prompt; None for a prompt that does not fit."""
        params = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=0.0)
        fitting = [prompt for prompt in prompts if prompt is not None]
        completions = iter(model.engine.generate(fitting, params) if fitting else ())
        return [None if prompt is None else next(completions).text.strip() for prompt in prompts]

    def _prompt(self, model: EvaluatedModel, message: Message) -> list[int] | None:
        try:
            return model.template.fit([message], budget=model.context_length - self.max_new_tokens).prompt_ids
        except ContextOverflow:
            return None


def contains(text: str, answer: str) -> bool:
    """Whether a text contains the answer's words in a row; case and punctuation are ignored."""
    tokens, expected = words(text), words(answer)
    return any(tokens[start : start + len(expected)] == expected for start in range(len(tokens) - len(expected) + 1))


def declines(text: str) -> bool:
    """Whether a text says that the sources do not contain the answer, or that it is unknown."""
    return _DECLINES.search(text) is not None


@dataclass(frozen=True, slots=True)
class _GradedAnswer:
    """One question with the answer from its sources and the baseline without; empty if the prompt did not fit."""

    outcome: RetrievalOutcome
    answer: str
    baseline: str

    @property
    def answerable(self) -> bool:
        """Whether a document contains the answer."""
        return self.outcome.answer is not None

    @property
    def absent(self) -> bool:
        """Whether there are sources that do not contain the answer."""
        return not self.answerable and bool(self.outcome.context)

    @property
    def right(self) -> bool:
        if self.outcome.answer is None:
            return declines(self.answer)
        return contains(self.answer, self.outcome.answer)

    @property
    def exact(self) -> bool:
        """Whether the answer is the expected one, or the sentence that contains it, and nothing else."""
        given = words(_CITATION.sub("", self.answer))
        return any(given == words(form) for form in (self.outcome.answer, self.outcome.sentence) if form is not None)


def _id(kind: str, labelled: LabelledQuestion) -> str:
    return item_id(kind, labelled.question, labelled.document, labelled.answer)


def _record(item: Item[LabelledQuestion], graded: _GradedAnswer, prompt: Sequence[int] | None) -> Record:
    outcome = graded.outcome
    observations: dict[str, tuple[float, float]] = {}
    if graded.answerable:
        observations |= {
            "contains": (float(graded.right), 1.0),
            "exact_match": (float(graded.exact), 1.0),
            "contains_without_sources": (float(contains(graded.baseline, outcome.answer or "")), 1.0),
            "says_so_wrongly": (float(declines(graded.answer)), 1.0),
        }
    if graded.absent:
        observations["says_when_absent"] = (float(graded.right), 1.0)
    if graded.answerable or graded.absent:
        observations["correct"] = (float(graded.right), 1.0)
    supported, cited = outcome.citations(graded.answer)
    if cited:
        observations["citation_precision"] = (float(supported), float(cited))
    observations |= {f"retrieval.{name}": (value, 1.0) for name, value in outcome.ranks.items()}
    return Record(
        item=item.id,
        observations=observations,
        group=item.group,
        cluster=item.cluster,
        question="\n".join(part for part in (outcome.question, outcome.context) if part),
        answer=graded.answer,
        expected=outcome.answer or "(that the sources do not say)",
        correct=graded.right if "correct" in observations else None,
        prompt_sha256=None if prompt is None else prompt_hash(prompt),
        details={"without_sources": graded.baseline} | ({DOES_NOT_FIT: True} if prompt is None else {}),
    )
