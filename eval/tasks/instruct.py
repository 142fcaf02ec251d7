"""Instruction following: answers to the test split against the expected ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import (
    DOES_NOT_FIT,
    Item,
    MetricSpec,
    Record,
    example_items,
    fit,
    in_chunks,
    overflow_note,
    prompt_hash,
    question,
)
from eval.text_metrics import exact_match, rouge_l, token_f1
from resonance.chat_template import Fitted
from resonance.engine import SamplingParams

_BATCHES_PER_CHUNK = 4  # more lets the engine refill free slots; fewer saves records more often


@dataclass(frozen=True, slots=True)
class Instruct:
    """Exact match (overall and by family), token F1 and ROUGE-L of greedy answers.

    A conversation is scored on its last answer, after the expected earlier ones. A question that does not fit into the
    context window counts as wrong; a note says how many.
    """

    max_new_tokens: int
    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = True

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Exact match, token F1, ROUGE-L."""
        return {
            "exact_match": MetricSpec("proportion", share=True, by_group=True),
            "token_f1": MetricSpec("mean", share=True),
            "rouge_l": MetricSpec("mean", share=True),
        }

    def items(self, examples: Sequence[Example]) -> Sequence[Item[Example]]:
        """One item per example."""
        return example_items(examples)

    def run(self, model: EvaluatedModel, items: Sequence[Item[Example]]) -> Iterator[Record]:
        """Generate and score the answers."""
        for chunk in in_chunks(items, model.batch_size * _BATCHES_PER_CHUNK):
            fitted = [fit(item.content, model) for item in chunk]
            texts = iter(self._generate(model, [prompt for prompt in fitted if prompt is not None]))
            for item, prompt in zip(chunk, fitted, strict=True):
                yield _record(item, prompt, None if prompt is None else next(texts))

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """The number of questions that do not fit."""
        return overflow_note(records, "questions", "count as wrong")

    def _generate(self, model: EvaluatedModel, prompts: Sequence[Fitted]) -> list[str]:
        params = [
            SamplingParams(
                max_new_tokens=min(self.max_new_tokens, model.context_length - len(prompt.prompt_ids)),
                temperature=0.0,
            )
            for prompt in prompts
        ]
        completions = model.engine.generate([prompt.prompt_ids for prompt in prompts], params)
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
