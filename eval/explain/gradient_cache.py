"""The projected gradients of training examples, kept in the run's folder; an interrupted call is gone on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.example import Example, fingerprint
from data.tokenize import IGNORE, tokenize
from eval.explain.gradients import SEED, ProjectedGradients, padded
from resonance.atomic_files import write_text_atomically
from resonance.chat_template import ChatTemplate, Message

FOLDER = "explain"  # in the run's folder
VERSION = 1  # of what is computed
TOKENS = 2048  # of a batch, padding included
SAVE_EVERY = 4  # batches

Pair = tuple[Sequence[int], Sequence[int]]  # input ids and labels


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


def cached_gradients(
    folder: Path,
    examples: Sequence[Example],
    gradients: ProjectedGradients,
    template: ChatTemplate,
    context_length: int,
    *,
    weights: str,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float16]:
    """Each example's gradient at length 1, (n, dimension) float16, mapped from its file; zeros without any label.

    `weights` identifies the weights and what of them the gradients are of. A killed call is gone on with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    what = [VERSION, SEED, weights, gradients.dimension, template.name, context_length, fingerprint([examples])]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    array, progress = folder / f"{key}.npy", folder / f"{key}.json"
    shape = (len(examples), gradients.dimension)
    done = json.loads(progress.read_text(encoding="utf-8"))["examples"] if progress.is_file() and array.is_file() else 0
    if done == len(examples):
        return np.load(array, mmap_mode="r")
    for other in folder.iterdir():  # of other weights or other data
        if other.stem != key:
            other.unlink()
    kept = np.lib.format.open_memmap(array, "r+" if done else "w+", dtype=np.float16, shape=shape)
    order = np.argsort([sum(len(m.content) for m in example.messages) for example in examples], kind="stable")
    on_progress(done, len(examples))
    batches = _batches([examples[i] for i in order[done:].tolist()], template, context_length)
    for number, batch in enumerate(batches, 1):
        made = sums_of_rows(batch, gradients)
        kept[order[done : done + len(batch)]] = unit(made).astype(np.float16)
        done += len(batch)
        if number % SAVE_EVERY == 0 or done == len(examples):
            kept.flush()
            write_text_atomically(progress, json.dumps({"examples": done}))
        on_progress(done, len(examples))
    return np.load(array, mmap_mode="r")


def sums_of_rows(batch: Sequence[list[tuple[float, Pair]]], gradients: ProjectedGradients) -> NDArray[np.float32]:
    """The gradient of each example of a batch, (B, dimension) float32."""
    made = np.zeros((len(batch), gradients.dimension), np.float32)
    flat = [(index, sign, pair) for index, rows in enumerate(batch) for sign, pair in rows]
    if not flat:
        return made
    each = gradients(*padded([pair for _, _, pair in flat])).numpy()
    for (index, sign, _), row in zip(flat, each, strict=True):
        made[index] += sign * row
    return made


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows at length 1; zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths == 0, 1, lengths)).astype(np.float32)


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
