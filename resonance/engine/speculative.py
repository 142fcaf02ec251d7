"""Speculative decoding: drafted tokens, several of which one step of the model verifies.

Drafting never changes the output: a drafted token is kept only where sampling, with the random number of its position,
samples the same one.
"""

from array import array
from collections import abc
from typing import Protocol

from resonance.engine import loading
from resonance.engine.quantization import Precision
from resonance.engine.sampler import sample
from resonance.engine.sampling_params import EngineError
from resonance.engine.sequence import Chunk, Sequence
from resonance.model import GPT2
from resonance.model_config import GPT2Config

MAX_DRAFTED = 4  # by a draft model, each of which costs it a step
CATCH_UP_TOKENS = 256  # of one sequence that a draft model reads at a time before it drafts
MAX_LOOKUP = 10  # tokens drafted by prompt lookup
LONGEST_MATCH, SHORTEST_MATCH = 4, 2  # tokens that prompt lookup searches for


class Drafter(Protocol):
    """Drafts the next tokens of decoding sequences."""

    def draft(self, sequences: abc.Sequence[Sequence], limits: abc.Sequence[int]) -> list[list[int]]:
        """For each decoding sequence at most this many tokens that may come next."""
        ...


class PromptLookup:
    """Drafts what followed the last occurrence of a sequence's last tokens.

    Source: Saxena 2023, "Prompt Lookup Decoding".
    """

    def draft(self, sequences: abc.Sequence[Sequence], limits: abc.Sequence[int]) -> list[list[int]]:
        """See Drafter."""
        return [
            self._look_up(sequence.token_ids, min(limit, MAX_LOOKUP)) if limit > 0 and sequence.can_be_drafted else []
            for sequence, limit in zip(sequences, limits, strict=True)
        ]

    def _look_up(self, token_ids: list[int], limit: int) -> list[int]:
        ids = array("i", token_ids)
        data, width = ids.tobytes(), ids.itemsize
        for length in range(LONGEST_MATCH, SHORTEST_MATCH - 1, -1):
            tail = data[-length * width :]
            at = data.rfind(tail, 0, len(data) - width)
            while at >= 0 and at % width:  # a match of bytes that does not start at a token
                at = data.rfind(tail, 0, at + len(tail) - 1)
            if at >= 0:
                start = at // width + length
                return token_ids[start : start + limit]
        return []


class DraftModel:
    """Drafts with a smaller model, in a cache whose slots are those of the sequences in the target model's.

    It samples with the random numbers of the positions, so that where both models' distributions agree their tokens do,
    at any temperature. Where the distributions nearly agree, the tokens nearly always do with top_k; without it, a
    small difference in the whole vocabulary's distribution soon gives another token.
    """

    def __init__(
        self, model: GPT2, target: GPT2Config, slots: int, precision: Precision, *, kernels: bool = True
    ) -> None:
        if model.config.vocab_size != target.vocab_size:
            raise EngineError(
                f"The draft has a vocabulary of {model.config.vocab_size} tokens and the model one of "
                f"{target.vocab_size}; take a draft that was trained with the same tokenizer and template."
            )
        _, self._runner, self.notes = loading.cache_and_runner(model, slots, precision, kernels=kernels)
        self._context_length = model.config.context_length
        self._cached_ids: list[list[int]] = [[] for _ in range(slots)]  # tokens whose keys and values are in the cache

    def draft(self, sequences: abc.Sequence[Sequence], limits: abc.Sequence[int]) -> list[list[int]]:
        """See Drafter. A sequence is drafted only after the draft model has computed all its tokens."""
        drafted: dict[int, list[int]] = {}
        chunks: list[Chunk] = []
        remaining: dict[int, int] = {}
        for i, (sequence, limit) in enumerate(zip(sequences, limits, strict=True)):
            most = min(limit, MAX_DRAFTED, self._context_length - len(sequence.token_ids))
            if most > 0 and sequence.can_be_drafted:
                chunk = self._next_chunk(sequence)
                chunks.append(chunk)
                if chunk.hidden_count:
                    drafted[i], remaining[i] = [], most
        while chunks:
            hidden = self._runner.hidden(chunks)
            for chunk in chunks:
                self._cached_ids[chunk.sequence.slot][chunk.start :] = chunk.token_ids
            if not remaining:
                break
            rows = [sequences[i].sampling_metadata(drafted[i]) for i in remaining]
            for i, token_id in zip(remaining, sample(self._runner.logits(hidden), rows), strict=True):
                drafted[i].append(token_id)
            remaining = {i: limit - 1 for i, limit in remaining.items() if limit > 1}
            chunks = [
                Chunk(sequences[i], len(sequences[i].token_ids) + len(drafted[i]) - 1, drafted[i][-1:], 1)
                for i in remaining
            ]
        return [drafted.get(i, []) for i in range(len(sequences))]

    def _next_chunk(self, sequence: Sequence) -> Chunk:
        # The tokens that the draft's cache lacks, or the first of them; hidden states only if they are the last.
        ids, cached = sequence.token_ids, self._cached_ids[sequence.slot]
        start = min(len(cached), len(ids) - 1)
        if cached[:start] != ids[:start]:
            start = next(i for i in range(start) if cached[i] != ids[i])
        end = min(len(ids), start + CATCH_UP_TOKENS)
        return Chunk(sequence, start, ids[start:end], int(end == len(ids)))
