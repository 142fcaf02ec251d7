"""How surprised a model is by the expected answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from data.example import Example
from eval.errors import EvalError
from eval.evaluated_model import Subject
from eval.statistics import Measure
from eval.tasks.base import Advance, Result, fit, in_chunks


@dataclass(frozen=True, slots=True)
class Surprise:
    """One example's negative log-likelihoods in nats: of all supervised tokens, and of the words alone."""

    nats: float
    tokens: int
    word_nats: float
    word_bytes: int


_UNKNOWN = Surprise(nats=0.0, tokens=0, word_nats=0.0, word_bytes=0)


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean nats per supervised token, and bits per byte of the answers' text.

    Supervised tokens are those that training sees: the assistant's words and end tokens. Bits per byte
    leave the end tokens out, so that models with different templates or vocabularies can be compared.
    Examples that do not fit into the context window are left out on all sides, and a note says how many.
    """

    needs_examples: ClassVar[bool] = True

    def size(self, examples: Sequence[Example]) -> int:
        """One step an example."""
        return len(examples)

    def run(self, subject: Subject, examples: Sequence[Example], advance: Advance) -> Result:
        """Score the expected answers. Raises EvalError when no example can be scored."""
        surprises: list[Surprise | None] = []
        for chunk in in_chunks(examples, subject.batch_size):
            surprises.extend(_score(chunk, subject))
            advance(len(chunk))
        return _result(surprises, subject.context_length)


def _score(examples: Sequence[Example], subject: Subject) -> list[Surprise | None]:
    """The examples' surprises in one batch; None for one that does not fit or supervises nothing."""
    requests: list[tuple[list[int], list[int]]] = []
    masks: list[list[bool] | None] = []
    for example in examples:
        fitted = fit(example, subject)
        rendered = fitted and subject.template.render([*fitted.messages, example.messages[-1]])
        if not rendered or not any(rendered.loss_mask):
            masks.append(None)
            continue
        first = rendered.loss_mask.index(True)
        requests.append((rendered.input_ids[:first], rendered.input_ids[first:]))
        masks.append(rendered.loss_mask[first:])
    scored = iter(zip(requests, subject.engine.score(requests), strict=True)) if requests else iter(())
    surprises: list[Surprise | None] = []
    for mask in masks:
        if mask is None:
            surprises.append(None)
            continue
        (_, ids), log_likelihoods = next(scored)
        surprises.append(_surprise(ids, mask, log_likelihoods, subject))
    return surprises


def _surprise(
    ids: Sequence[int], mask: Sequence[bool], log_likelihoods: Sequence[float], subject: Subject
) -> Surprise | None:
    supervised = [(i, -ll) for i, on, ll in zip(ids, mask, log_likelihoods, strict=True) if on]
    text = [(i, nats) for i, nats in supervised if i != subject.template.end_id]
    word_bytes = sum(len(subject.tokenizer.token_bytes(i)) for i, _ in text)
    if not word_bytes:
        return None
    return Surprise(
        nats=sum(nats for _, nats in supervised),
        tokens=len(supervised),
        word_nats=sum(nats for _, nats in text),
        word_bytes=word_bytes,
    )


def _result(surprises: Sequence[Surprise | None], context_length: int) -> Result:
    known = [one or _UNKNOWN for one in surprises]
    perplexity = Measure(
        np.array([one.nats for one in known]),
        np.array([float(one.tokens) for one in known]),
        exponentiate=True,
        higher_is_better=False,
    )
    bits_per_byte = Measure(
        np.array([one.word_nats for one in known]) / math.log(2),
        np.array([float(one.word_bytes) for one in known]),
        higher_is_better=False,
    )
    missing = surprises.count(None)
    if missing == len(surprises):
        raise EvalError(
            f"None of the {missing} test examples can be scored in a context of {context_length} tokens; "
            "evaluate on data with shorter examples."
        )
    note = f"{missing} examples do not fit into {context_length} tokens, or have no answer, and are left out."
    return Result(
        measures={"perplexity": perplexity, "bits_per_byte": bits_per_byte},
        notes=(note,) if missing else (),
    )
