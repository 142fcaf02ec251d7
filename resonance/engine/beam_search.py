"""Beam search: the likeliest whole continuations of a prompt, not one likely token after another."""

import heapq
from collections import abc
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from resonance.engine.logits_processors import process_logits
from resonance.engine.outputs import Completion, TokenLogprob
from resonance.engine.sampling_params import EngineError, SamplingMetadata
from resonance.engine.sequence import Sequence

MAX_LENGTH_PENALTY = 100  # a context's length to this power is still a finite number


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A continuation of the prompt; `ended` means that its last token is an end token."""

    tokens: tuple[TokenLogprob, ...] = ()
    ended: bool = False

    @property
    def token_ids(self) -> list[int]:
        """The tokens after the prompt."""
        return [token.token_id for token in self.tokens]

    @property
    def logprob(self) -> float:
        """The natural log-probability of the whole continuation."""
        return sum(token.logprob for token in self.tokens)

    def score(self, length_penalty: float, length: int | None = None) -> float:
        """The log-probability over length ** length_penalty, which ranks hypotheses (Wu et al. 2016, simplified)."""
        return self.logprob / (length or max(1, len(self.tokens))) ** length_penalty

    def completion(self, prompt: Sequence) -> Completion:
        """The hypothesis as a completion, without an end token."""
        tokens = self.tokens[: len(self.tokens) - self.ended]
        token_bytes = [prompt.detokenizer.token_bytes(token.token_id) for token in tokens] if prompt.detokenizer else []
        return Completion(
            token_ids=[token.token_id for token in tokens],
            text=b"".join(token_bytes).decode("utf-8", errors="replace"),
            finish_reason="stop" if self.ended else "length",
            logprobs=list(tokens),
            prompt_tokens=prompt.prompt_tokens,
            cached_tokens=prompt.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """A search that keeps `width` hypotheses at a time; a `length_penalty` above 0 favours longer ones."""

    width: int = 4
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise EngineError(f"width must be at least 1, not {self.width}.")
        if not abs(self.length_penalty) <= MAX_LENGTH_PENALTY:
            raise EngineError(
                f"length_penalty must be between {-MAX_LENGTH_PENALTY} and {MAX_LENGTH_PENALTY}, not "
                f"{self.length_penalty}."
            )

    def search(self, prompt: Sequence, next_logits: Callable[[list[list[int]]], Tensor]) -> list[Hypothesis]:
        """The `width` best continuations, best first.

        `next_logits` computes the logits (sequences, vocab) fp32 of the token after each sequence. Penalties, biases,
        bans, forced tokens, processors and min_new_tokens change them; log-probabilities are those of the changed
        logits. Raises EngineError for parameters that only make sense for sampling.
        """
        params = prompt.params
        if params.stop or prompt.grammar is not None or params.n > 1:
            raise EngineError("Beam search knows no stop strings, json_schema, regex or n; leave them out.")
        max_new_tokens = prompt.max_length - prompt.prompt_tokens
        live, done = [Hypothesis()], list[Hypothesis]()
        for _ in range(max_new_tokens):
            extended = self._extend(live, prompt, next_logits)
            done = self._best([*done, *(one for one in extended if one.ended)])
            live = [one for one in extended if not one.ended][: self.width]
            if not live or self._is_settled(live[0], done, max_new_tokens):
                return done
        return self._best([*done, *live])

    def _extend(
        self,
        live: abc.Sequence[Hypothesis],
        prompt: Sequence,
        next_logits: Callable[[list[list[int]]], Tensor],
    ) -> list[Hypothesis]:
        # The likeliest continuations by one token: enough to keep `width` without those that end.
        token_ids = [[*prompt.token_ids, *one.token_ids] for one in live]
        logits = next_logits(token_ids)  # (live, V)
        process_logits(
            logits, [SamplingMetadata(prompt.params, 0, ids, prompt.prompt_tokens, prompt.end_ids) for ids in token_ids]
        )
        values, ids = logits.log_softmax(-1).topk(min(self.width + len(prompt.end_ids), logits.shape[-1]))
        extended = [
            Hypothesis((*one.tokens, TokenLogprob(token_id, value)), token_id in prompt.end_ids)
            for one, row_values, row_ids in zip(live, values.tolist(), ids.tolist(), strict=True)
            for value, token_id in zip(row_values, row_ids, strict=True)
            if value > float("-inf")
        ]
        return sorted(extended, key=lambda one: one.logprob, reverse=True)

    def _best(self, hypotheses: abc.Sequence[Hypothesis]) -> list[Hypothesis]:
        return heapq.nlargest(self.width, hypotheses, key=lambda one: one.score(self.length_penalty))

    def _is_settled(self, best_live: Hypothesis, done: abc.Sequence[Hypothesis], max_new_tokens: int) -> bool:
        # Whether no live hypothesis can still enter the best: extending one never increases its log-probability.
        if len(done) < self.width:
            return False
        lengths = (len(best_live.tokens) + 1, max_new_tokens)
        return done[-1].score(self.length_penalty) >= max(best_live.score(self.length_penalty, n) for n in lengths)
