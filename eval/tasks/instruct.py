"""Instruction following: answers to the test split against the expected ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import (
    DOES_NOT_FIT,
    Item,
    MetricSpec,
    Record,
    example_items,
    fit,
    in_chunks,
    item_id,
    overflow_note,
    prompt_hash,
    question,
)
from eval.text_metrics import chrf, exact_match, rouge_l, token_f1
from resonance.chat_template import Fitted
from resonance.engine import SamplingParams

_BATCHES_PER_CHUNK = 4  # more lets the engine refill free slots; fewer saves records more often


@dataclass(frozen=True, slots=True)
class Instruct:
    """Exact match (overall and by family), token F1, ROUGE-L and chrF of greedy or sampled answers.

    A conversation is scored on its last answer, after the expected earlier ones. A question that does not fit into the
    context window counts as wrong; a note says how many. With a `temperature` each question is asked once for each of
    the `seeds`, and its answers are a cluster.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seeds: Sequence[int] = (0,)
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raise EvalError for seeds that would change nothing, and for none."""
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise EvalError(f"seeds must be different whole numbers, and at least one, not {[*self.seeds]}.")
        if self.temperature < 0:
            raise EvalError(f"temperature must be 0 (greedy) or more, not {self.temperature:g}.")
        if self.temperature == 0 and tuple(self.seeds) != (0,):
            raise EvalError(f"seeds={[*self.seeds]} has no effect on greedy answers; set temperature above 0 too.")

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Exact match, token F1, ROUGE-L, chrF."""
        return {
            "exact_match": MetricSpec("proportion", share=True, by_group=True),
            "token_f1": MetricSpec("mean", share=True),
            "rouge_l": MetricSpec("mean", share=True),
            "chrf": MetricSpec("mean", share=True),
        }

    def items(self, examples: Sequence[Example]) -> Sequence[Item[Example]]:
        """One item per example, or per seed and example."""
        items = example_items(examples)
        if self.temperature == 0:
            return items
        return [
            replace(item, id=item_id(item.id, seed), cluster=item.cluster or item.id)
            for seed in self.seeds
            for item in items
        ]

    def run(self, model: EvaluatedModel, items: Sequence[Item[Example]]) -> Iterator[Record]:
        """Generate and score the answers."""
        for chunk in in_chunks(items, model.batch_size * _BATCHES_PER_CHUNK):
            fitted = [fit(item.content, model) for item in chunk]
            fitting = [(item, prompt) for item, prompt in zip(chunk, fitted, strict=True) if prompt is not None]
            texts = iter(self._generate(model, fitting))
            for item, prompt in zip(chunk, fitted, strict=True):
                yield _record(item, prompt, None if prompt is None else next(texts))

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """The number of questions that do not fit."""
        return overflow_note(records, "questions", "count as wrong")

    def _generate(self, model: EvaluatedModel, asked: Sequence[tuple[Item[Example], Fitted]]) -> list[str]:
        """The answers. An item's id, which depends on the seed, draws its tokens: the same whatever else is asked."""
        params = [
            SamplingParams(
                max_new_tokens=min(self.max_new_tokens, model.context_length - len(prompt.prompt_ids)),
                temperature=self.temperature,
                seed=int(item.id[:8], 16),
            )
            for item, prompt in asked
        ]
        completions = model.engine.generate([prompt.prompt_ids for _, prompt in asked], params)
        return [completion.text.strip() for completion in completions]


def _record(item: Item[Example], fitted: Fitted | None, text: str | None) -> Record:
    """The scored answer; `text` is None if the question does not fit."""
    example, answer = item.content, text or ""
    right = text is not None and bool(exact_match(answer, example.answer))
    return Record(
        item=item.id,
        observations={
            "exact_match": (float(right), 1.0),
            "token_f1": (token_f1(answer, example.answer), 1.0),
            "rouge_l": (rouge_l(answer, example.answer), 1.0),
            "chrf": (chrf(answer, example.answer), 1.0),
        },
        group=item.group,
        cluster=item.cluster,
        question=question(fitted.messages if fitted else example.prompt),
        answer=answer,
        expected=example.answer,
        correct=right,
        prompt_sha256=fitted and prompt_hash(fitted.prompt_ids),
        details={} if fitted else {DOES_NOT_FIT: True},
    )
