"""Perplexity and bits per byte of the expected answers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from data.example import Example
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import DOES_NOT_FIT, Item, MetricSpec, Record, example_items, fit, in_chunks, prompt_hash, question


@dataclass(frozen=True, slots=True)
class AnswerNLL:
    """An example's negative log-likelihoods in nats: of all supervised tokens, and of the text without end tokens."""

    nats: float
    tokens: int
    text_nats: float
    text_bytes: int
    prompt_sha256: str


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean nats per supervised token, and bits per byte of the answers' text.

    Supervised tokens are those of training: the assistant's text and end tokens. Bits per byte exclude the end tokens,
    so that models with different templates or vocabularies are comparable. Examples that do not fit into the context
    window are excluded for all models; a note says how many.
    """

    version: ClassVar[int] = 1
    needs_examples: ClassVar[bool] = True

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        """Perplexity and bits per byte."""
        return {
            "perplexity": MetricSpec("perplexity", higher_is_better=False),
            "bits_per_byte": MetricSpec("ratio", higher_is_better=False),
        }

    def items(self, examples: Sequence[Example]) -> Sequence[Item[Example]]:
        """One item per example."""
        return example_items(examples)

    def run(self, model: EvaluatedModel, items: Sequence[Item[Example]]) -> Iterator[Record]:
        """Score the expected answers."""
        for chunk in in_chunks(items, model.batch_size):
            nlls = _score([item.content for item in chunk], model)
            yield from (_record(item, nll) for item, nll in zip(chunk, nlls, strict=True))

    def notes(self, records: Sequence[Record]) -> Sequence[str]:
        """The number of examples that are left out."""
        missing = sum(not record.observations for record in records)
        note = f"{missing} examples do not fit into the context, or have no answer, and are left out."
        return (note,) if missing else ()


def _score(examples: Sequence[Example], model: EvaluatedModel) -> list[AnswerNLL | None]:
    """The examples' likelihoods in one batch; None for one that does not fit or has no supervised token."""
    requests: list[tuple[list[int], list[int]]] = []
    masks: list[list[bool] | None] = []
    for example in examples:
        fitted = fit(example, model)
        rendered = fitted and model.template.render([*fitted.messages, example.messages[-1]])
        if not rendered or not any(rendered.loss_mask):
            masks.append(None)
            continue
        first = rendered.loss_mask.index(True)
        requests.append((rendered.input_ids[:first], rendered.input_ids[first:]))
        masks.append(rendered.loss_mask[first:])
    scored = iter(zip(requests, model.engine.score(requests), strict=True)) if requests else iter(())
    nlls: list[AnswerNLL | None] = []
    for mask in masks:
        if mask is None:
            nlls.append(None)
            continue
        pair, log_likelihoods = next(scored)
        nlls.append(_answer_nll(pair, mask, log_likelihoods, model))
    return nlls


def _answer_nll(
    pair: tuple[list[int], list[int]], mask: Sequence[bool], log_likelihoods: Sequence[float], model: EvaluatedModel
) -> AnswerNLL | None:
    prompt, ids = pair
    supervised = [(i, -ll) for i, is_supervised, ll in zip(ids, mask, log_likelihoods, strict=True) if is_supervised]
    text = [(i, nats) for i, nats in supervised if i != model.template.end_id]
    text_bytes = sum(len(model.tokenizer.token_bytes(i)) for i, _ in text)
    if not text_bytes:
        return None
    return AnswerNLL(
        nats=sum(nats for _, nats in supervised),
        tokens=len(supervised),
        text_nats=sum(nats for _, nats in text),
        text_bytes=text_bytes,
        prompt_sha256=prompt_hash(prompt),
    )


def _record(item: Item[Example], nll: AnswerNLL | None) -> Record:
    """The likelihoods as observations; None if the example does not fit or has no supervised text."""
    example = item.content
    return Record(
        item=item.id,
        observations={}
        if nll is None
        else {
            "perplexity": (nll.nats, float(nll.tokens)),
            "bits_per_byte": (nll.text_nats / math.log(2), float(nll.text_bytes)),
        },
        group=item.group,
        cluster=item.cluster,
        question=question(example.prompt),
        expected=example.answer,
        prompt_sha256=nll and nll.prompt_sha256,
        details={} if nll else {DOES_NOT_FIT: True},
    )
