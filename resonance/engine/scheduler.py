"""Scheduler: which sequence has a slot of the cache, and which tokens the next step computes."""

import heapq
from collections import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from resonance.engine.sequence import Chunk, Sequence
from resonance.engine.speculative import Drafter

MAX_DECODE_ROWS = 12  # decoding and drafted tokens of a step: up to so many cost little more time than one
PREFILL_TOKENS = 512  # of prompts, in a step that delays no stream
MIXED_PREFILL_TOKENS = 32  # of prompts, in a step beside streams
MIN_BACKGROUND = 4  # tokens a step, so that background sequences finish however many prompts arrive
BACKGROUND_BESIDE_STREAMS = 8  # tokens a step: streams keep about half their pace, and scoring most of its own
BACKGROUND_ALONE = 128  # tokens a step: as fast as more, and soon over for a request that arrives meanwhile
MIN_COPY = 16  # a shorter prefix is faster to compute than to copy from another slot


@dataclass(slots=True)
class Slot:
    """A slot of the cache: its sequence, or the tokens whose keys and values the last one left there."""

    sequence: Sequence | None = None
    left_ids: list[int] = field(default_factory=list[int])
    owner: str | None = None
    last_used: int = 0

    @property
    def cached_ids(self) -> list[int]:
        """The tokens whose keys and values are in the slot."""
        if self.sequence is None:
            return self.left_ids
        return self.sequence.token_ids[: self.sequence.computed_tokens]


class Scheduler:
    """Assigns slots to waiting sequences by priority, then by arrival; every sequence with a slot shares each step.

    A step computes every decoding sequence's newest token, then prompts in chunks, then background sequences (scoring)
    with what is left. `copy_prefix(source_slot, target_slot, length)` copies a shared prefix's keys and values;
    `drafter` drafts tokens for decoding sequences.
    """

    def __init__(
        self, slots: int, copy_prefix: Callable[[int, int, int], None], drafter: Drafter | None = None
    ) -> None:
        self.slots = [Slot() for _ in range(slots)]
        self._copy_prefix = copy_prefix
        self._drafter = drafter
        self._waiting: list[tuple[int, int, Sequence]] = []  # a heap
        self._running: list[Sequence] = []  # with a slot, in order of admission; some may be paused
        self._parked: list[Sequence] = []  # paused, without a slot
        self._ticks = count(1)

    @property
    def running(self) -> int:
        """How many sequences have a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many sequences have no slot."""
        return len(self._waiting) + len(self._parked)

    @property
    def has_work(self) -> bool:
        """Whether any sequence is not paused."""
        return bool(self._waiting) or any(not sequence.paused for sequence in self._running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind those of its priority or a higher one."""
        if sequence.paused:
            self._parked.append(sequence)
        else:
            heapq.heappush(self._waiting, (-sequence.priority, next(self._ticks), sequence))

    def pause(self, sequence: Sequence) -> None:
        """Compute nothing for a sequence until `resume`. It keeps its slot until another sequence needs one."""
        sequence.paused = True
        if self._dequeue(sequence):
            self._parked.append(sequence)

    def resume(self, sequence: Sequence) -> None:
        """Resume a paused sequence; one that lost its slot is queued again, and its cache recomputed."""
        sequence.paused = False
        if sequence in self._parked:
            self._parked.remove(sequence)
            self.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence, waiting or running. Its slot is free; the keys and values there remain for reuse."""
        if sequence.slot >= 0:
            self._free(sequence)
        elif not self._dequeue(sequence) and sequence in self._parked:
            self._parked.remove(sequence)

    def schedule(self) -> list[Chunk]:
        """Admit waiting sequences to free slots, then choose the next step's chunks, at most one a sequence."""
        while self._waiting and (self._free_slots() or self._preempt_paused()):
            self._admit(heapq.heappop(self._waiting)[2])
        active = [sequence for sequence in self._running if not sequence.paused]
        background = [sequence for sequence in active if sequence.background]
        decoding = [sequence for sequence in active if sequence.is_decoding]
        prefilling = [sequence for sequence in active if not (sequence.is_decoding or sequence.background)]
        budget = self._prefill_budget(decoding, prefilling)
        prefill = list(self._prefill_chunks(prefilling, budget))
        left = budget - sum(len(chunk.token_ids) for chunk in prefill)
        left = self._background_budget(left, [*decoding, *prefilling], background)
        return [*self._decode_chunks(decoding), *prefill, *self._prefill_chunks(background, left)]

    def _prefill_budget(self, decoding: abc.Sequence[Sequence], prefilling: abc.Sequence[Sequence]) -> int:
        # Beside streams, prompts get few tokens a step, so that a long prompt does not stall them. More prompts per
        # stream get more: delaying few streams then gives many clients their first token sooner.
        streams = sum(sequence.streaming for sequence in decoding)
        if not streams:
            return PREFILL_TOKENS
        return min(PREFILL_TOKENS, max(1, 2 * len(prefilling) // streams) * MIXED_PREFILL_TOKENS)

    def _background_budget(
        self, left: int, foreground: abc.Sequence[Sequence], background: abc.Sequence[Sequence]
    ) -> int:
        # Small while clients wait for tokens; larger while only scoring runs, bounded because a stream may arrive.
        if any(sequence.streaming for sequence in foreground):
            left = min(left, BACKGROUND_BESIDE_STREAMS)
        elif any(sequence.streaming for sequence in background):
            left = min(left, BACKGROUND_ALONE)
        return max(left, MIN_BACKGROUND)

    def _decode_chunks(self, sequences: abc.Sequence[Sequence]) -> Iterator[Chunk]:
        drafted: list[list[int]] = [[] for _ in sequences]
        if sequences and self._drafter is not None:
            most = max(0, MAX_DECODE_ROWS - len(sequences)) // len(sequences)
            limits = [min(most, sequence.max_length - len(sequence.token_ids) - 1) for sequence in sequences]
            drafted = self._drafter.draft(sequences, limits)
        for sequence, ids in zip(sequences, drafted, strict=True):
            yield Chunk(sequence, sequence.computed_tokens, [sequence.token_ids[-1], *ids], 1 + len(ids), ids)

    def _prefill_chunks(self, sequences: abc.Sequence[Sequence], budget: int) -> Iterator[Chunk]:
        for sequence in sequences:
            start = sequence.computed_tokens
            end = min(len(sequence.token_ids), start + budget)
            if start < end:
                hidden_count = max(0, end - max(start, sequence.hidden_from))
                yield Chunk(sequence, start, sequence.token_ids[start:end], hidden_count)
            budget -= end - start

    def _admit(self, sequence: Sequence) -> None:
        """Give a sequence a free slot, with as much of its prefix in the cache as any slot of its owner has.

        The slot with the longest common prefix is taken itself when it is free and the prefix is at least half of what
        it holds. Otherwise the prefix is copied to the least recently used free slot, so that the rest stays cached.
        """
        limit = min(sequence.hidden_from, len(sequence.token_ids) - 1)  # hidden states are not cached
        shared = [
            _common_prefix(slot.cached_ids, sequence.token_ids, limit) if slot.owner == sequence.owner else 0
            for slot in self.slots
        ]
        source = target = max(range(len(shared)), key=shared.__getitem__)
        if self.slots[source].sequence is not None or 2 * shared[source] < len(self.slots[source].left_ids):
            target = min(self._free_slots(), key=lambda i: self.slots[i].last_used)
        length = shared[target]
        if shared[source] >= max(MIN_COPY, length + 1):
            length = shared[source]
            self._copy_prefix(source, target, length)
        sequence.slot, sequence.computed_tokens = target, length
        if len(sequence.token_ids) == sequence.prompt_tokens:  # not resumed: its own tokens are no cached prompt
            sequence.cached_tokens = length
        self.slots[target].sequence, self.slots[target].owner = sequence, sequence.owner
        self._running.append(sequence)

    def _free(self, sequence: Sequence) -> None:
        slot = self.slots[sequence.slot]
        slot.left_ids, slot.last_used, slot.sequence = slot.cached_ids, next(self._ticks), None
        self._running.remove(sequence)

    def _preempt_paused(self) -> bool:
        # Takes the slot of a paused sequence. False when none is paused.
        sequence = next((sequence for sequence in self._running if sequence.paused), None)
        if sequence is None:
            return False
        self._free(sequence)
        sequence.slot, sequence.computed_tokens, sequence.hidden_from = -1, 0, len(sequence.token_ids) - 1
        self._parked.append(sequence)
        return True

    def _dequeue(self, sequence: Sequence) -> bool:
        # False when the sequence is not waiting.
        waiting = [entry for entry in self._waiting if entry[2] is not sequence]
        found = len(waiting) < len(self._waiting)
        if found:
            self._waiting = waiting
            heapq.heapify(self._waiting)
        return found

    def _free_slots(self) -> list[int]:
        return [i for i, slot in enumerate(self.slots) if slot.sequence is None]


def _common_prefix(one: list[int], other: list[int], limit: int) -> int:
    limit = min(limit, len(one), len(other))
    if one[:limit] == other[:limit]:
        return limit
    return next(i for i in range(limit) if one[i] != other[i])
