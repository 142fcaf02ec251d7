"""Retrieval-augmented answers: with and without sources, their citations, and questions that no document answers."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.retrieval_metrics import LabelledRetrieval, RetrievalOutcome
from eval.statistics import Metric
from eval.tasks.base import Advance, Answer, Result, in_chunks
from eval.text_metrics import words
from resonance.chat_template import ContextOverflow, Message
from resonance.engine import SamplingParams

_BATCHES_PER_CALL = 4  # large enough for the engine to refill free slots, small enough for a moving progress bar
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

    - `contains`, `contains_without_sources`: the model's answer contains the words of the expected answer.
    - `exact_match`: with sources, the answer is the expected one, or the sentence that contains it, and nothing else.
    - `says_when_absent`: the model says that the sources do not contain the answer, when they do not;
      `says_so_wrongly`: when they do.
    - `citation_precision`: the share of citations whose source supports the citing sentence.
    - `retrieval`: recall@k, MRR and nDCG of the ranking of documents, and `context_recall`, the share of questions
      whose answer is in the retrieved context, an upper bound for `contains`.
    """

    retrieval: LabelledRetrieval
    max_new_tokens: int
    needs_examples: ClassVar[bool] = False

    def size(self, examples: Sequence[Example]) -> int:
        """Two steps per question: with sources and without."""
        return 2 * self.retrieval.size

    def run(self, model: EvaluatedModel, examples: Sequence[Example], advance: Advance) -> Result:
        """Retrieve, answer and score. `examples` is not used."""
        outcomes = self.retrieval.outcomes(lambda text: len(model.tokenizer.encode(text)))
        with_sources = [Message("user", outcome.question, outcome.context or None) for outcome in outcomes]
        without = [Message("user", outcome.question) for outcome in outcomes]
        answers = self._answers(model, with_sources, advance)
        baselines = self._answers(model, without, advance)
        graded = [
            _GradedAnswer(outcome, answer or "", baseline or "")
            for outcome, answer, baseline in zip(outcomes, answers, baselines, strict=True)
        ]
        return _result(graded, missing=answers.count(None))

    def _answers(self, model: EvaluatedModel, messages: Sequence[Message], advance: Advance) -> list[str | None]:
        """The answer to each message in a conversation of its own; None if it does not fit into the context window."""
        params = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=0.0)
        texts: list[str | None] = []
        for chunk in in_chunks(messages, model.batch_size * _BATCHES_PER_CALL):
            prompts = [self._prompt(model, message) for message in chunk]
            fitting = [prompt for prompt in prompts if prompt is not None]
            completions = iter(model.engine.generate(fitting, params) if fitting else ())
            texts.extend(None if prompt is None else next(completions).text.strip() for prompt in prompts)
            advance(len(chunk))
        return texts

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
    def kind(self) -> str:
        return self.outcome.kind if self.answerable else "absent"

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


def _result(graded: Sequence[_GradedAnswer], missing: int) -> Result:
    answerable, absent = [each.answerable for each in graded], [each.absent for each in graded]
    scored = [each.answerable or each.absent for each in graded]
    baselines = [contains(each.baseline, each.outcome.answer or "") for each in graded]
    citations = [each.outcome.citations(each.answer) for each in graded]
    note = f"{missing} of {len(graded)} questions do not fit into the context with their sources and count as wrong."
    return Result(
        metrics={
            "contains": _share((each.right for each in graded), answerable),
            "exact_match": _share((each.exact for each in graded), answerable),
            "contains_without_sources": _share(baselines, answerable),
            "says_when_absent": _share((each.right for each in graded), absent),
            "says_so_wrongly": _share((declines(each.answer) for each in graded), answerable, higher_is_better=False),
            "citation_precision": Metric(
                np.array([supported for supported, _ in citations], float),
                np.array([made for _, made in citations], float),
                share=True,
            ),
        },
        groups={
            "by_kind": {
                kind: _share(
                    (each.right for each in graded),
                    [each.kind == kind and counted for each, counted in zip(graded, scored, strict=True)],
                )
                for kind in sorted({each.kind for each in graded})
            },
            "retrieval": {name: _rank(graded, name) for name in graded[answerable.index(True)].outcome.ranks},
        },
        answers=tuple(
            Answer(
                question="\n".join(part for part in (each.outcome.question, each.outcome.context) if part),
                answer=each.answer,
                expected=each.outcome.answer or "(that the sources do not say)",
                family=each.kind,
                correct=each.right,
            )
            for each, counted in zip(graded, scored, strict=True)
            if counted
        ),
        notes=(note,) if missing else (),
    )


def _share(values: Iterable[bool], observed: Sequence[bool], *, higher_is_better: bool = True) -> Metric:
    """The share of true values among those observed."""
    return Metric(
        np.array([*values], float),
        np.array(observed, float),
        proportion=True,
        share=True,
        higher_is_better=higher_is_better,
    )


def _rank(graded: Sequence[_GradedAnswer], name: str) -> Metric:
    """The mean of one retrieval metric over the questions that have it."""
    return Metric(
        np.array([each.outcome.ranks.get(name, 0.0) for each in graded]),
        np.array([float(name in each.outcome.ranks) for each in graded]),
        share=True,
    )
