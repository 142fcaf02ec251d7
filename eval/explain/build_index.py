"""Writes the index of a run's training examples, the projected gradient of each; goes on where it was interrupted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.example import Example, fingerprint
from data.tokenize import IGNORE, tokenize
from eval.explain.training_examples import TrainingExample, training_examples
from resonance.chat_template import ChatTemplate, Message
from resonance.checkpoint import Checkpoint
from resonance.influence.gradients import SEED, ProjectedGradients, adapter_of, padded
from resonance.influence.index import FOLDER, VERSION, IndexWriter, InfluenceIndex, NoIndex, Record

TOKENS = 4096  # of a batch, padding included
SAVE_EVERY = 8  # batches

Pair = tuple[Sequence[int], Sequence[int]]  # input ids and labels
OnProgress = Callable[[int, int], None]  # the characters whose gradients are known, and all


def open_or_build(
    checkpoint: Checkpoint, *, side: int, examples: int | None, on_progress: OnProgress = lambda done, total: None
) -> InfluenceIndex:
    """The checkpoint's index, built where it has none of these weights and this data.

    `examples` are drawn at random from the run's; None: all. An index of more is used as it is.
    Raises EvalError and DataError where the data is not at hand.
    """
    trained_on = checkpoint.metadata.data_fingerprint
    try:
        found = InfluenceIndex.open(checkpoint)
    except NoIndex:
        found = None
    if found is not None and found.record.side == side and _is_enough(found.record, examples):
        if found.record.data == trained_on:
            return found
    else:
        found = None
    sources = training_examples(checkpoint)
    data = trained_on or fingerprint([[one.example for one in sources]])
    if found is not None and found.record.data == data:
        return found
    count = len(sources) if examples is None else min(examples, len(sources))
    drawn = sorted(random.Random(SEED).sample(range(len(sources)), count))
    adapter = adapter_of(checkpoint)
    parameters = "the last block" if adapter is None else "the adapter"
    record = Record(VERSION, checkpoint.crc32, data, parameters, side, len(sources), count)
    gradients = ProjectedGradients(checkpoint.load_model().float(), adapter, side=side)
    writer = IndexWriter(checkpoint.folder / FOLDER, record, [_described(i, sources[i]) for i in drawn])
    length = checkpoint.config.context_length
    chosen = [sources[i].example for i in drawn]
    write_gradients(writer, chosen, gradients, checkpoint.template(), length, on_progress=on_progress)
    return InfluenceIndex.open(checkpoint)


def write_gradients(
    writer: IndexWriter,
    examples: Sequence[Example],
    gradients: ProjectedGradients,
    template: ChatTemplate,
    context_length: int,
    *,
    on_progress: OnProgress = lambda done, total: None,
) -> None:
    """Compute the gradients that the writer has not yet, those of short examples first: batches need little padding."""
    lengths = np.array([sum(len(m.content) for m in one.messages) for one in examples], np.int64)
    order = np.argsort(lengths, kind="stable")
    total = int(lengths.sum())
    on_progress(int(lengths[order[: writer.done]].sum()), total)
    batches = _batches([examples[i] for i in order[writer.done :].tolist()], template, context_length)
    for number, batch in enumerate(batches, 1):
        writer.add(order[writer.done : writer.done + len(batch)].tolist(), sums_of_rows(batch, gradients))
        if number % SAVE_EVERY == 0:
            writer.save()
        on_progress(int(lengths[order[: writer.done]].sum()), total)
    writer.save()


def tokens_of(messages: Sequence[Message], template: ChatTemplate, context_length: int, *, last_only: bool) -> Pair:
    """A conversation's input ids and labels as training has them; empty where nothing of it is left to train on.

    `last_only` leaves the labels of the last answer alone.
    """
    tokenized = tokenize([Example(tuple(messages))], template, context_length)
    labels = tokenized.labels.copy()
    if last_only and len(labels):
        (other,) = np.nonzero(labels == IGNORE)
        labels[: other[-1] + 1 if len(other) else 0] = IGNORE
    return tokenized.input_ids.tolist(), labels.tolist()


def gradient_rows(example: Example, template: ChatTemplate, context_length: int) -> list[tuple[float, Pair]]:
    """The conversations whose gradients make an example's, with their signs.

    A pair's gradient is the better answer's without the worse one's, as in DPO; a vote against an answer turns it.
    """
    judged = example.rejected is not None or example.desirable is not None
    sign = -1.0 if example.desirable is False else 1.0
    rows = [(sign, tokens_of(example.messages, template, context_length, last_only=judged))]
    if example.rejected is not None:
        worse = (*example.prompt, Message("assistant", example.rejected))
        rows.append((-sign, tokens_of(worse, template, context_length, last_only=True)))
    return [(sign, pair) for sign, pair in rows if pair[0]]


def sums_of_rows(batch: Sequence[list[tuple[float, Pair]]], gradients: ProjectedGradients) -> NDArray[np.float32]:
    """The gradient of each example of a batch, (B, dimension) float32; zeros without any label."""
    made = np.zeros((len(batch), gradients.dimension), np.float32)
    flat = [(index, sign, pair) for index, rows in enumerate(batch) for sign, pair in rows]
    if not flat:
        return made
    each = gradients(*padded([pair for _, _, pair in flat])).numpy()
    for (index, sign, _), row in zip(flat, each, strict=True):
        made[index] += sign * row
    return made


def _is_enough(record: Record, examples: int | None) -> bool:
    return record.examples >= (record.training_examples if examples is None else examples)


def _described(index: int, source: TrainingExample) -> dict[str, Any]:
    """What the index of gradients says of an example, whose index in the run's data is `index`."""
    example = source.example
    return {
        "index": index,
        "kind": source.kind,
        "times": source.times,
        "prompt": example.prompt[-1].content if example.prompt else "",
        "answer": example.answer,
        **({} if example.rejected is None else {"rejected": example.rejected}),
        **({} if example.desirable is None else {"desirable": example.desirable}),
        **({} if example.family is None else {"family": example.family}),
        "row": example.row,
        "provenance": dict(source.provenance) or None,
    }


def _batches(
    examples: Sequence[Example], template: ChatTemplate, context_length: int
) -> Iterator[list[list[tuple[float, Pair]]]]:
    """The examples' rows, in batches of about TOKENS tokens."""
    batch: list[list[tuple[float, Pair]]] = []
    longest = count = 0
    for example in examples:
        rows = gradient_rows(example, template, context_length)
        length = max((len(ids) for _, (ids, _) in rows), default=0)
        if batch and max(longest, length) * (count + len(rows)) > TOKENS:
            yield batch
            batch, longest, count = [], 0, 0
        batch.append(rows)
        longest, count = max(longest, length), count + len(rows)
    if batch:
        yield batch
