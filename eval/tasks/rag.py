"""Whether a model answers from what retrieval finds: with and without sources, with citations, and where there is none.

The questions and their sources come from whoever `retrieval` names; this module knows how answers are judged.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from data.example import Example
from eval.evaluated_model import Subject
from eval.statistics import Measure
from eval.tasks.base import Advance, Answer, Result, in_chunks
from eval.text_metrics import words
from resonance.chat_template import ContextOverflow, Message
from resonance.engine import SamplingParams

_FULL_BATCHES = 4  # batches handed over at once: the engine refills free places, the bar still moves
_MARK = re.compile(r"\s?\[[\d,\s]+\]")
_HOLDER = r"(?:sources?|documents?|texts?|context|passages?|notes?|results?|information)"
_DECLINES = re.compile(
    rf"\b{_HOLDER}\b[^.!?]*(?:\bnot\b|n't\b|\bno\b|\bnothing\b|\bnone\b)"
    rf"|(?:\bnot\b|n't\b|\bno\b|\bnone\b|\bnothing\b)[^.!?]*\b{_HOLDER}\b"
    r"|\b(?:I|we) (?:do not|don't|cannot|can't|could not|couldn't) (?:know|say|tell|find|answer)\b",
    re.IGNORECASE,
)


class Outcome(Protocol):
    """What retrieval made of one question of a held-out set.

    `answer` is None where the documents do not hold one, else `sentence` is the one that does. `ranks` are the
    question's own retrieval scores in [0, 1]; empty without an answer. `context` is empty when nothing was found.
    """

    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str | None: ...
    @property
    def kind(self) -> str: ...
    @property
    def sentence(self) -> str | None: ...
    @property
    def ranks(self) -> Mapping[str, float]: ...
    @property
    def context(self) -> str: ...

    def citations(self, text: str) -> tuple[int, int]:
        """How many of an answer's citations name a source that holds their sentence, and how many there are."""
        ...


class Retrieval(Protocol):
    """A held-out set of questions, and what finds sources for them."""

    @property
    def size(self) -> int:
        """How many questions there are."""
        ...

    def outcomes(self, count_tokens: Callable[[str], int]) -> Sequence[Outcome]:
        """Every question's outcome, always in the same order."""
        ...


@dataclass(frozen=True, slots=True)
class Rag:
    """Greedy answers to questions about documents, with the sources that retrieval finds and without any.

    - `contains`, `contains_without_sources`: the words of the answer stand in what the model says.
    - `exact_match`: with sources, the words of the answer or of the sentence that holds it, and no others.
    - `says_when_absent`: it says that the sources do not hold the answer, where they do not; `says_so_wrongly`:
      where they do.
    - `citation_precision`: the share of cited numbers whose source holds the sentence that cites it.
    - `retrieval`: recall@k, MRR and nDCG of the documents' order, and `context_recall`, the share of questions whose
      answer stands in the sources given: no model can answer more of them from there.
    """

    retrieval: Retrieval
    max_new_tokens: int
    needs_examples: ClassVar[bool] = False

    def size(self, examples: Sequence[Example]) -> int:
        """Two steps a question: with sources and without."""
        return 2 * self.retrieval.size

    def run(self, subject: Subject, examples: Sequence[Example], advance: Advance) -> Result:
        """Find, ask and judge; the test split is not looked at."""
        outcomes = self.retrieval.outcomes(lambda text: len(subject.tokenizer.encode(text)))
        asked = [Message("user", outcome.question, outcome.context or None) for outcome in outcomes]
        plain = [Message("user", outcome.question) for outcome in outcomes]
        said, alone = self._answers(subject, asked, advance), self._answers(subject, plain, advance)
        judged = [
            _Judged(each, with_it or "", without or "")
            for each, with_it, without in zip(outcomes, said, alone, strict=True)
        ]
        return _result(judged, missing=said.count(None))

    def _answers(self, subject: Subject, messages: Sequence[Message], advance: Advance) -> list[str | None]:
        """What the model says to each message by itself; None where it does not fit into the context window."""
        params = SamplingParams(max_new_tokens=self.max_new_tokens, temperature=0.0)
        texts: list[str | None] = []
        for chunk in in_chunks(messages, subject.batch_size * _FULL_BATCHES):
            prompts = [self._prompt(subject, message) for message in chunk]
            fitting = [prompt for prompt in prompts if prompt is not None]
            said = iter(subject.engine.generate(fitting, params) if fitting else ())
            texts.extend(None if prompt is None else next(said).text.strip() for prompt in prompts)
            advance(len(chunk))
        return texts

    def _prompt(self, subject: Subject, message: Message) -> list[int] | None:
        try:
            return subject.template.fit([message], budget=subject.context_length - self.max_new_tokens).prompt_ids
        except ContextOverflow:
            return None


def contains(text: str, answer: str) -> bool:
    """Whether the answer's words stand in a text one after the other; case and punctuation do not count."""
    said, wanted = words(text), words(answer)
    return any(said[start : start + len(wanted)] == wanted for start in range(len(said) - len(wanted) + 1))


def declines(text: str) -> bool:
    """Whether a text says that the sources do not hold the answer, or that it is not known."""
    return _DECLINES.search(text) is not None


@dataclass(frozen=True, slots=True)
class _Judged:
    """One question with what the model said to it, with its sources and without; empty where it could not be asked."""

    outcome: Outcome
    said: str
    alone: str

    @property
    def held(self) -> bool:
        """Whether the documents hold an answer."""
        return self.outcome.answer is not None

    @property
    def absent(self) -> bool:
        """Whether there are sources, and no answer in them: without sources there is nothing to say of them."""
        return not self.held and bool(self.outcome.context)

    @property
    def kind(self) -> str:
        return self.outcome.kind if self.held else "absent"

    @property
    def right(self) -> bool:
        return contains(self.said, self.outcome.answer) if self.outcome.answer is not None else declines(self.said)

    @property
    def exact(self) -> bool:
        """Whether it said the answer, or the sentence that holds it, and no other words."""
        said = words(_MARK.sub("", self.said))
        return any(said == words(form) for form in (self.outcome.answer, self.outcome.sentence) if form is not None)


def _result(judged: Sequence[_Judged], missing: int) -> Result:
    asked = [each.held or each.absent for each in judged]
    held, absent = [each.held for each in judged], [each.absent for each in judged]
    alone = [contains(each.alone, each.outcome.answer or "") for each in judged]
    citations = [each.outcome.citations(each.said) for each in judged]
    note = f"{missing} of {len(judged)} questions do not fit into the context with their sources and count as wrong."
    return Result(
        measures={
            "contains": _share((each.right for each in judged), held),
            "exact_match": _share((each.exact for each in judged), held),
            "contains_without_sources": _share(alone, held),
            "says_when_absent": _share((each.right for each in judged), absent),
            "says_so_wrongly": _share((declines(each.said) for each in judged), held, higher_is_better=False),
            "citation_precision": Measure(
                np.array([supported for supported, _ in citations], float),
                np.array([made for _, made in citations], float),
                share=True,
            ),
        },
        groups={
            "by_kind": {
                kind: _share(
                    (each.right for each in judged),
                    [each.kind == kind and one for each, one in zip(judged, asked, strict=True)],
                )
                for kind in sorted({each.kind for each in judged})
            },
            "retrieval": {name: _rank(judged, name) for name in judged[held.index(True)].outcome.ranks},
        },
        answers=tuple(
            Answer(
                question="\n".join(part for part in (each.outcome.question, each.outcome.context) if part),
                answer=each.said,
                expected=each.outcome.answer or "(that the sources do not say)",
                family=each.kind,
                correct=each.right,
            )
            for each, one in zip(judged, asked, strict=True)
            if one
        ),
        notes=(note,) if missing else (),
    )


def _share(values: Iterable[bool], observed: Sequence[bool], *, higher_is_better: bool = True) -> Measure:
    """The share of true values among those that are observed."""
    return Measure(
        np.array([*values], float),
        np.array(observed, float),
        proportion=True,
        share=True,
        higher_is_better=higher_is_better,
    )


def _rank(judged: Sequence[_Judged], name: str) -> Measure:
    """The mean of one retrieval score over the questions that have it."""
    return Measure(
        np.array([each.outcome.ranks.get(name, 0.0) for each in judged]),
        np.array([float(name in each.outcome.ranks) for each in judged]),
        share=True,
    )
