"""Consumers of hidden states beside the sampler: scoring of given tokens, embeddings, and collection for beams."""

from collections import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from numbers import Integral
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from resonance.engine.outputs import Piece, TokenLogprob
from resonance.engine.requests import checked_ids
from resonance.engine.sampler import logprobs
from resonance.engine.sampling_params import EngineError
from resonance.engine.sequence import Chunk, Sequence

HEAD_ROWS = 128  # bounds the memory of logits

Pair = tuple[abc.Sequence[int], abc.Sequence[int]]  # a prompt's ids and its continuation's


def checked_pair(pair: Pair, top: int, vocab_size: int) -> tuple[list[int], list[int]]:
    """Validate a prompt's presence and its continuation to score, and return both as lists.

    Raises EngineError when the prompt is empty, when the continuation has ids outside the vocabulary, or when `top` is
    not a number of tokens.
    """
    prompt, continuation = pair
    if not len(prompt):
        raise EngineError("A prompt to score after must have at least one token; the end-of-text token will do.")
    if not isinstance(top, Integral) or top < 0:
        raise EngineError(f"top must be a whole number of at least 0, not {top!r}.")
    return list(prompt), checked_ids("the continuation", continuation, vocab_size)


@dataclass(slots=True)
class Scored:
    """What is scored of a sequence, and the scores so far."""

    continuation: list[int]
    top: int
    scores: list[TokenLogprob] = field(default_factory=list[TokenLogprob])


class Scorer:
    """Computes the log-probabilities of continuations from the hidden states before their tokens.

    A scored sequence is a prompt of all tokens but the last; the scheduler runs it in the background.
    """

    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        self._head = head  # (rows, n_embd) -> (rows, vocab)
        self._scored: WeakKeyDictionary[Sequence, Scored] = WeakKeyDictionary()

    def add(self, sequence: Sequence, continuation: list[int], top: int) -> None:
        """Score a sequence, whose tokens end with all but the last of the continuation."""
        sequence.consumer, sequence.background = self, True
        sequence.hidden_from = sequence.prompt_tokens - len(continuation)
        self._scored[sequence] = Scored(continuation, top)

    def scores(self, sequence: Sequence) -> list[TokenLogprob]:
        """The scores of the continuation's tokens so far."""
        return self._scored[sequence].scores

    def consume(self, chunks: abc.Sequence[Chunk], hidden: abc.Sequence[Tensor]) -> Iterator[tuple[Chunk, list[Piece]]]:
        """See HiddenStatesConsumer. The pieces have scores."""
        tokens = [token for chunk in chunks for token in self._scored_tokens(chunk)]
        scores = iter(self._score(torch.cat(list(hidden)), tokens))
        for chunk in chunks:
            own = tuple(islice(scores, chunk.hidden_count))
            sequence = chunk.sequence
            if sequence.finish_reason is None:
                sequence.advance(chunk)
                self._scored[sequence].scores += own
                yield chunk, [Piece(None, "", finish_reason=sequence.finish_reason, scores=own)] if own else []

    def _scored_tokens(self, chunk: Chunk) -> list[tuple[int, int]]:
        # (token id, top) for each token of the continuation that follows one of the chunk's hidden states.
        scored = self._scored[chunk.sequence]
        end = chunk.start + len(chunk.token_ids) - chunk.sequence.hidden_from
        return [(scored.continuation[i], scored.top) for i in range(end - chunk.hidden_count, end)]

    def _score(self, hidden: Tensor, tokens: abc.Sequence[tuple[int, int]]) -> Iterator[TokenLogprob]:
        for start in range(0, len(tokens), HEAD_ROWS):
            some = tokens[start : start + HEAD_ROWS]
            logits = self._head(hidden[start : start + HEAD_ROWS])
            values = logprobs(logits, [token_id for token_id, _ in some], max(top for _, top in some))
            for (token_id, top), (value, best) in zip(some, values, strict=True):
                yield TokenLogprob(token_id, value, best[:top])


class Embedder:
    """Computes the mean of a sequence's hidden states; the scheduler runs it in the background."""

    def __init__(self) -> None:
        self._sums: WeakKeyDictionary[Sequence, Tensor] = WeakKeyDictionary()  # (n_embd,) each, of the chunks so far

    def add(self, sequence: Sequence) -> None:
        """Embed a sequence."""
        sequence.consumer, sequence.background, sequence.hidden_from = self, True, 0

    def consume(self, chunks: abc.Sequence[Chunk], hidden: abc.Sequence[Tensor]) -> Iterator[tuple[Chunk, list[Piece]]]:
        """See HiddenStatesConsumer. The last chunk's piece has the embedding."""
        for chunk, states in zip(chunks, hidden, strict=True):
            sequence = chunk.sequence
            if sequence.finish_reason is not None:
                continue
            own, others = states.float().sum(0), self._sums.get(sequence)
            self._sums[sequence] = own if others is None else others + own
            sequence.advance(chunk)
            pieces: list[Piece] = []
            if sequence.finish_reason is not None:
                mean: list[float] = (self._sums[sequence] / sequence.prompt_tokens).tolist()
                pieces.append(Piece(None, "", finish_reason=sequence.finish_reason, embedding=tuple(mean)))
            yield chunk, pieces


class HiddenStatesCollector:
    """Keeps the hidden states of sequences, for embeddings and beam search."""

    def __init__(self) -> None:
        self._states: dict[Sequence, list[Tensor]] = {}

    def add(self, sequence: Sequence, hidden_from: int) -> None:
        """Collect a sequence's hidden states from this position on."""
        sequence.consumer, sequence.hidden_from = self, hidden_from
        self._states[sequence] = []

    def consume(self, chunks: abc.Sequence[Chunk], hidden: abc.Sequence[Tensor]) -> Iterator[tuple[Chunk, list[Piece]]]:
        """See HiddenStatesConsumer. There are no pieces."""
        for chunk, states in zip(chunks, hidden, strict=True):
            if chunk.sequence.finish_reason is None:
                self._states[chunk.sequence].append(states)
                yield chunk, chunk.sequence.advance(chunk)

    def take(self, sequence: Sequence) -> Tensor:
        """The hidden states (tokens, n_embd) of a finished sequence, which are kept no longer."""
        return torch.cat(self._states.pop(sequence))
