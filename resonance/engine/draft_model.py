"""Guesses by a smaller model, which writes ahead and lets the larger one check.

It draws with the random numbers that the text will use in the same place, so that where both models agree on a
distribution they agree on the token, at any temperature. Where they nearly agree, they nearly always do so with
top_k; without it, drawing from the whole vocabulary, a small difference soon leads to another token.
"""

from collections.abc import Sequence

from resonance.engine import loading, sampler
from resonance.engine.quantization import Precision
from resonance.engine.sampling_params import EngineError
from resonance.engine.sequence import Chunk, Text
from resonance.model import GPT2, GPT2Config

MOST = 4  # guesses a step; each costs a step of the small model
CATCH_UP = 256  # tokens of one text that it reads at a time before it guesses


class DraftModel:
    """A small model with a cache of its own, whose slots are those of the texts in the large one's."""

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
        self._held: list[list[int]] = [[] for _ in range(slots)]  # the tokens whose keys and values are there

    def guess(self, texts: Sequence[Text], limits: Sequence[int]) -> list[list[int]]:
        """See Drafter. A text that the draft has not read yet gets no guesses until it has."""
        drafted: dict[int, list[int]] = {}
        chunks: list[Chunk] = []
        left: dict[int, int] = {}
        for i, (text, limit) in enumerate(zip(texts, limits, strict=True)):
            most = min(limit, MOST, self._context_length - len(text.token_ids))
            if most > 0 and text.can_be_guessed:
                chunk = self._unread(text)
                chunks.append(chunk)
                if chunk.wanted:
                    drafted[i], left[i] = [], most
        while chunks:
            hidden = self._runner.hidden(chunks)
            for chunk in chunks:
                self._held[chunk.text.slot][chunk.start :] = chunk.token_ids
            if not left:
                break
            rows = [texts[i].row(drafted[i]) for i in left]
            for i, token_id in zip(left, sampler.choose(self._runner.logits(hidden), rows), strict=True):
                drafted[i].append(token_id)
            left = {i: limit - 1 for i, limit in left.items() if limit > 1}
            chunks = [Chunk(texts[i], len(texts[i].token_ids) + len(drafted[i]) - 1, drafted[i][-1:], 1) for i in left]
        return [drafted.get(i, []) for i in range(len(texts))]

    def _unread(self, text: Text) -> Chunk:
        # What of the text is not in the draft's cache, or the first part of it; wanted is what follows its last token.
        ids, held = text.token_ids, self._held[text.slot]
        known = min(len(held), len(ids) - 1)
        if held[:known] != ids[:known]:
            known = next(i for i in range(known) if held[i] != ids[i])
        end = min(len(ids), known + CATCH_UP)
        return Chunk(text, known, ids[known:end], int(end == len(ids)))
