"""Who gets a slot, and which tokens are computed in the next step: knows texts and counts, nothing of tensors."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from resonance.engine.sequence import Chunk, Text
from resonance.engine.speculative import Drafter

GUESSED_ROWS = 12  # a step of few texts has room for so many rows, guesses included, in little more time
LEAST_SCORED = 4  # tokens a step, so that scoring ends however many prompts come
SCORED_BESIDE = 8  # tokens a step: streams keep about half their pace, and scoring most of its own
SCORED_ALONE = 128  # tokens a step: as fast as more, and soon over for whoever comes next
MIN_COPY = 16  # a shared prefix shorter than this is computed again rather than copied from another slot


@dataclass(slots=True)
class Slot:
    """A place in the cache: whose it is, and whose tokens' keys and values it still holds."""

    text: Text | None = None
    held: list[int] = field(default_factory=list[int])  # by its last text, once that has left
    owner: str | None = None
    last_used: int = 0

    @property
    def computed_ids(self) -> list[int]:
        """The tokens whose keys and values are there."""
        return self.held if self.text is None else self.text.token_ids[: self.text.computed]


class Scheduler:
    """Waiting texts get slots by priority, then in order of arrival; all that have one share each step.

    A step holds every decoding text's newest token, and prompts' tokens in chunks: up to `prefill_tokens`, but
    `mixed_tokens` beside decoding texts that somebody reads along, so that a long prompt does not stall running
    streams; more where those are few beside the prompts. Texts that are scored take what prompts leave of that, within
    SCORED_BESIDE while somebody waits for a text's next token and SCORED_ALONE while somebody may come.
    `copy_prefix(source_slot, target_slot, length)` moves a shared prefix's cache; `drafter` guesses tokens that
    decoding texts will say.
    """

    def __init__(
        self,
        slots: int,
        copy_prefix: Callable[[int, int, int], None],
        drafter: Drafter | None = None,
        *,
        prefill_tokens: int = 512,
        mixed_tokens: int = 32,
    ) -> None:
        self.slots = [Slot() for _ in range(slots)]
        self._copy_prefix = copy_prefix
        self._drafter = drafter
        self._prefill_tokens = prefill_tokens
        self._mixed_tokens = mixed_tokens
        self._waiting: list[tuple[int, int, Text]] = []  # a heap
        self._running: list[Text] = []  # in order of admission; paused texts among them keep their slots for now
        self._parked: list[Text] = []  # paused, without a slot
        self._ticks = count(1)

    @property
    def running(self) -> int:
        """How many texts have a slot."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many texts wait for one."""
        return len(self._waiting) + len(self._parked)

    @property
    def has_work(self) -> bool:
        """Whether any text can go on; paused ones cannot."""
        return bool(self._waiting) or any(not text.paused for text in self._running)

    def add(self, text: Text) -> None:
        """Queue a text: behind those of its priority or a higher one."""
        if text.paused:
            self._parked.append(text)
        else:
            heapq.heappush(self._waiting, (-text.priority, next(self._ticks), text))

    def pause(self, text: Text) -> None:
        """Compute nothing for a text until `resume`. It keeps its slot for as long as no other text needs it."""
        text.paused = True
        waiting = [entry for entry in self._waiting if entry[2] is not text]
        if len(waiting) < len(self._waiting):
            self._waiting = waiting
            heapq.heapify(self._waiting)
            self._parked.append(text)

    def resume(self, text: Text) -> None:
        """Let a paused text go on; one that lost its slot queues for another, in which its cache is computed anew."""
        text.paused = False
        if text in self._parked:
            self._parked.remove(text)
            self.add(text)

    def remove(self, text: Text) -> None:
        """Let go of a text, waiting or running; its slot keeps the cache until another needs the room."""
        if text.slot < 0:
            self._waiting = [entry for entry in self._waiting if entry[2] is not text]
            heapq.heapify(self._waiting)
            self._parked = [parked for parked in self._parked if parked is not text]
            return
        self._free(text)

    def schedule(self) -> list[Chunk]:
        """The next step's work: at most one chunk a text. Admits waiting texts to free slots first."""
        while self._waiting and (any(slot.text is None for slot in self.slots) or self._preempt_paused()):
            self._admit(heapq.heappop(self._waiting)[2])
        going = [text for text in self._running if not text.paused]
        decoding = [text for text in going if text.is_decoding]
        prefilling = [text for text in going if not (text.is_decoding or text.scored_ids)]
        scored = [text for text in going if text.scored_ids]
        budget = self._prefill_tokens
        watched = sum(text.read_along for text in decoding)
        if watched:  # the fewer would be held up, and the more would wait, the more of prompts
            budget = min(budget, max(1, 2 * len(prefilling) // watched) * self._mixed_tokens)
        chunks = [*self._next_tokens(decoding), *self._next_chunks(prefilling, budget)]
        if scored:
            left = budget - sum(len(chunk.token_ids) for chunk in chunks[len(decoding) :])
            if watched or any(text.read_along for text in prefilling):
                left = min(left, SCORED_BESIDE)
            elif any(text.read_along for text in scored):
                left = min(left, SCORED_ALONE)
            chunks += self._next_chunks(scored, max(left, LEAST_SCORED))
        return chunks

    def _next_tokens(self, texts: Sequence[Text]) -> Iterator[Chunk]:
        drafted: list[list[int]] = [[] for _ in texts]
        if texts and self._drafter is not None:
            rows = max(0, GUESSED_ROWS - len(texts)) // len(texts)
            drafted = self._drafter.guess(
                texts, [min(rows, text.most_tokens - len(text.token_ids) - 1) for text in texts]
            )
        for text, guesses in zip(texts, drafted, strict=True):
            yield Chunk(text, text.computed, [text.token_ids[-1], *guesses], 1 + len(guesses), guesses)

    def _next_chunks(self, texts: Sequence[Text], budget: int) -> Iterator[Chunk]:
        for text in texts:
            start, end = text.computed, min(len(text.token_ids), text.computed + budget)
            if start < end:
                wanted = max(0, end - max(start, text.wanted_from))
                yield Chunk(text, start, text.token_ids[start:end], wanted)
            budget -= end - start

    def _admit(self, text: Text) -> None:
        limit = min(text.wanted_from, len(text.token_ids) - 1)  # what is wanted of them is computed anew
        known = [
            _common_prefix(slot.computed_ids, text.token_ids, limit) if slot.owner == text.owner else 0
            for slot in self.slots
        ]
        source = max(range(len(known)), key=known.__getitem__)
        length = known[source]
        target = source
        slot = self.slots[source]
        if slot.text is not None or 2 * length < len(slot.held):  # taken, or holds more that is worth keeping
            target = min(self._free_slots(), key=lambda i: self.slots[i].last_used)
            if target != source and length < max(MIN_COPY, known[target] + 1):
                length = known[target]
            elif target != source:
                self._copy_prefix(source, target, length)
        text.slot, text.computed = target, length
        if len(text.token_ids) == text.prompt_tokens:  # not one that was paused and comes back
            text.cached_tokens = length
        self.slots[target].text, self.slots[target].owner = text, text.owner
        self._running.append(text)

    def _free(self, text: Text) -> None:
        slot = self.slots[text.slot]
        slot.held, slot.last_used, slot.text = slot.computed_ids, next(self._ticks), None
        self._running.remove(text)

    def _preempt_paused(self) -> bool:
        """Take the slot of a paused text for one that can go on. False where none is paused."""
        text = next((text for text in self._running if text.paused), None)
        if text is None:
            return False
        self._free(text)
        text.slot, text.computed, text.wanted_from = -1, 0, len(text.token_ids) - 1
        self._parked.append(text)
        return True

    def _free_slots(self) -> Iterator[int]:
        return (i for i, slot in enumerate(self.slots) if slot.text is None)


def _common_prefix(one: list[int], other: list[int], limit: int) -> int:
    limit = min(limit, len(one), len(other))
    if one[:limit] == other[:limit]:
        return limit
    return next(i for i in range(limit) if one[i] != other[i])
