"""Rolling log-likelihood: the loss of whole texts, longer than the context, by segment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from eval import EvalError
from eval.documents import Document, Segment
from eval.evaluated_model import EvaluatedModel
from eval.tasks.base import Item, MetricSpec, in_chunks, item_id
from eval.windows import Window, sliding_windows

Ints = NDArray[np.int64]

_BATCHES_PER_CHUNK = 2  # more lets the engine refill free slots; fewer saves records more often

TEXT_METRICS: Mapping[str, MetricSpec] = {
    "perplexity": MetricSpec("perplexity", higher_is_better=False),
    "word_perplexity": MetricSpec("perplexity", higher_is_better=False),
    "bits_per_byte": MetricSpec("ratio", higher_is_better=False),
}


@dataclass(frozen=True, slots=True)
class TextSegment:
    """One segment of a document: what an item of a text task asks."""

    document: Document
    index: int

    @property
    def segment(self) -> Segment:
        """The segment itself."""
        return self.document.segments[self.index]


@dataclass(frozen=True, slots=True)
class SegmentLoss:
    """The loss of a segment's scored tokens in nats, and their number and bytes."""

    nats: float
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Rolling:
    """How a long text is scored: windows of `window` tokens (null: the model's context), `stride` tokens apart.

    Every token is scored once, with at least `window - stride` tokens of context, or all that the document has before
    it; `stride` null is half the window. With `bos` every document follows an end-of-text token, and its first token
    is scored too.
    """

    window: int | None = None
    stride: int | None = None
    bos: bool = True

    def losses(self, model: EvaluatedModel, segments: Sequence[TextSegment]) -> Iterator[SegmentLoss]:
        """Yield the loss of each segment, in order; a document's segments stand side by side.

        Raises EvalError when window and stride do not fit together or not into the model's context.
        """
        size, stride = self._sizes(model.context_length)
        ids, owners, windows = self._plan(model, segments, size, stride)
        last = np.full(len(segments), -1)  # the last window that scores a token of each segment
        for i, (document, window) in enumerate(windows):
            last[_owned(owners[document], window)] = i
        nats, tokens, size_bytes = (np.zeros(len(segments)) for _ in range(3))
        finished = done = 0
        for chunk in in_chunks(windows, model.batch_size * _BATCHES_PER_CHUNK):
            pairs = [(ids[d][w.begin : w.first], ids[d][w.first : w.end]) for d, w in chunk]
            for (document, window), (_, scored), lls in zip(chunk, pairs, model.engine.score(pairs), strict=True):
                owner = owners[document][window.first : window.end]
                counted = owner >= 0
                lengths = np.array([len(model.tokenizer.token_bytes(i)) for i in scored])
                np.add.at(nats, owner[counted], -np.array(lls)[counted])
                np.add.at(tokens, owner[counted], 1)
                np.add.at(size_bytes, owner[counted], lengths[counted])
            done += len(chunk)
            while finished < len(segments) and last[finished] < done:
                yield SegmentLoss(float(nats[finished]), int(tokens[finished]), int(size_bytes[finished]))
                finished += 1

    def _sizes(self, context_length: int) -> tuple[int, int]:
        size = context_length if self.window is None else self.window
        if not 2 <= size <= context_length:
            raise EvalError(
                f"A window of {size} tokens does not fit: it must have at least 2, and the model's context holds "
                f"{context_length}."
            )
        stride = size // 2 if self.stride is None else self.stride
        if not 1 <= stride < size:
            raise EvalError(f"A stride of {stride} tokens must be at least 1 and less than the window, {size}.")
        return size, stride

    def _plan(
        self, model: EvaluatedModel, segments: Sequence[TextSegment], size: int, stride: int
    ) -> tuple[list[list[int]], list[Ints], list[tuple[int, Window]]]:
        """By document: its token ids, and each token's index in `segments` (-1: none); and the windows to score."""
        ids: list[list[int]] = []
        owners: list[Ints] = []
        windows: list[tuple[int, Window]] = []
        numbered = enumerate(segments)
        for number, (_, group) in enumerate(groupby(numbered, key=lambda pair: id(pair[1].document))):
            members = {segment.index: i for i, segment in group}
            document = segments[next(iter(members.values()))].document
            prefix = [model.tokenizer.eot_id] if self.bos else []
            token_ids = [*prefix, *model.tokenizer.encode(document.text)]
            owner = np.concatenate(
                [np.full(len(prefix), -1), _owners(document, members, token_ids[len(prefix) :], model)]
            )
            ids.append(token_ids)
            owners.append(owner)
            windows += [
                (number, window)
                for window in sliding_windows(len(token_ids), size, stride)
                if len(_owned(owner, window))
            ]
        return ids, owners, windows


def text_items(documents: Sequence[Document]) -> list[Item[TextSegment]]:
    """One item per segment; the segments of a document are a cluster, unless there is only one document."""
    several = len(documents) > 1
    return [
        Item(
            item_id(number, index, segment.text),
            TextSegment(document, index),
            segment.text,
            cluster=document.name if several else None,
        )
        for number, document in enumerate(documents)
        for index, segment in enumerate(document.segments)
    ]


def text_observations(loss: SegmentLoss, segment: Segment) -> dict[str, tuple[float, float]]:
    """The observations of `TEXT_METRICS`; none if no token was scored."""
    if not loss.tokens:
        return {}
    return {
        "perplexity": (loss.nats, float(loss.tokens)),
        "word_perplexity": (loss.nats, float(segment.words)),
        "bits_per_byte": (loss.nats / float(np.log(2)), float(loss.bytes)),
    }


def _owners(document: Document, members: Mapping[int, int], ids: Sequence[int], model: EvaluatedModel) -> Ints:
    """For each token the index of the segment that has its first byte; -1 if that one is not asked for."""
    ends = np.cumsum([len(segment.text.encode("utf-8", "replace")) for segment in document.segments])
    starts = np.cumsum([0, *(len(model.tokenizer.token_bytes(i)) for i in ids)])[:-1]
    of_segment = np.array([members.get(i, -1) for i in range(len(document.segments))])
    return of_segment[np.searchsorted(ends, starts, side="right")]


def _owned(owner: Ints, window: Window) -> Ints:
    """The segments that have a scored token in a window."""
    scored = np.unique(owner[window.first : window.end])
    return scored[scored >= 0]
