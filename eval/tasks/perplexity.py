"""Perplexity and bits per byte of the expected answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data.example import Example
from eval import EvalError
from eval.evaluated_model import EvaluatedModel
from eval.statistics import Metric
from eval.tasks.base import Advance, Result, fit, in_chunks


@dataclass(frozen=True, slots=True)
class AnswerNLL:
    """An example's negative log-likelihoods in nats: of all supervised tokens, and of the text without end tokens."""

    nats: float
    tokens: int
    text_nats: float
    text_bytes: int


_UNOBSERVED = AnswerNLL(nats=0.0, tokens=0, text_nats=0.0, text_bytes=0)


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean nats per supervised token, and bits per byte of the answers' text.

    Supervised tokens are those of training: the assistant's text and end tokens. Bits per byte exclude the end tokens,
    so that models with different templates or vocabularies are comparable. Examples that do not fit into the context
    window are excluded for all models; a note says how many.
    """

    needs_examples: ClassVar[bool] = True

    def size(self, examples: Sequence[Example]) -> int:
        """One step per example."""
        return len(examples)

    def run(self, model: EvaluatedModel, examples: Sequence[Example], advance: Advance) -> Result:
        """Score the expected answers. Raises EvalError when no example can be scored."""
        nlls: list[AnswerNLL | None] = []
        for chunk in in_chunks(examples, model.batch_size):
            nlls.extend(_score(chunk, model))
            advance(len(chunk))
        return _result(nlls, model.context_length)


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
        (_, ids), log_likelihoods = next(scored)
        nlls.append(_answer_nll(ids, mask, log_likelihoods, model))
    return nlls


def _answer_nll(
    ids: Sequence[int], mask: Sequence[bool], log_likelihoods: Sequence[float], model: EvaluatedModel
) -> AnswerNLL | None:
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
    )


def _result(nlls: Sequence[AnswerNLL | None], context_length: int) -> Result:
    known = [nll or _UNOBSERVED for nll in nlls]
    perplexity = Metric(
        np.array([nll.nats for nll in known]),
        np.array([float(nll.tokens) for nll in known]),
        exponentiate=True,
        higher_is_better=False,
    )
    bits_per_byte = Metric(
        np.array([nll.text_nats for nll in known]) / math.log(2),
        np.array([float(nll.text_bytes) for nll in known]),
        higher_is_better=False,
    )
    missing = nlls.count(None)
    if missing == len(nlls):
        raise EvalError(
            f"None of the {missing} test examples can be scored in a context of {context_length} tokens; "
            "evaluate on data with shorter examples."
        )
    note = f"{missing} examples do not fit into {context_length} tokens, or have no answer, and are left out."
    return Result(
        metrics={"perplexity": perplexity, "bits_per_byte": bits_per_byte},
        notes=(note,) if missing else (),
    )
