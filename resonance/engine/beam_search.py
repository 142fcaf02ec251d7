"""Beam search: the likeliest whole texts, not one likely token after another. It knows logits, and no model."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from resonance.engine.logits_processors import shape
from resonance.engine.outputs import Completion, TokenLogprob
from resonance.engine.row import Row
from resonance.engine.sampling_params import EngineError
from resonance.engine.sequence import Text

STRONGEST = 100  # length penalty: a context's length to that power is still a number


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One way in which a prompt may go on; `ended` says that its last token is an end token."""

    tokens: tuple[TokenLogprob, ...] = ()
    ended: bool = False

    @property
    def token_ids(self) -> list[int]:
        """The tokens after the prompt."""
        return [token.token_id for token in self.tokens]

    @property
    def logprob(self) -> float:
        """The natural logarithm of the whole continuation's probability."""
        return sum(token.logprob for token in self.tokens)

    def score(self, length_penalty: float, length: int | None = None) -> float:
        """What hypotheses are ranked by: log-probability over length ** length_penalty (Wu et al. 2016, simplified)."""
        return self.logprob / (length or max(1, len(self.tokens))) ** length_penalty

    def completion(self, prompt: Text) -> Completion:
        """The finished text: the tokens but for an end token."""
        tokens = self.tokens[: len(self.tokens) - self.ended]
        said = (
            b"".join(prompt.detokenizer.token_bytes(token.token_id) for token in tokens) if prompt.detokenizer else b""
        )
        return Completion(
            token_ids=[token.token_id for token in tokens],
            text=said.decode("utf-8", errors="replace"),
            finish_reason="stop" if self.ended else "length",
            logprobs=list(tokens),
            prompt_tokens=prompt.prompt_tokens,
            cached_tokens=prompt.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Beam:
    """How a search goes: so many hypotheses at a time; a `length_penalty` above 0 favours longer ones."""

    width: int = 4
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise EngineError(f"width must be at least 1, not {self.width}.")
        if not abs(self.length_penalty) <= STRONGEST:
            raise EngineError(
                f"length_penalty must be between {-STRONGEST} and {STRONGEST}, not {self.length_penalty}."
            )

    def search(self, prompt: Text, next_logits: Callable[[list[list[int]]], Tensor]) -> list[Hypothesis]:
        """The `width` best continuations, best first.

        `next_logits` computes (texts, vocab) fp32 of what follows each text. Penalties, biases, bans, forced
        tokens, processors and the least length shape them; log-probabilities are those of the shaped logits.
        Raises EngineError for what only makes sense one token after another.
        """
        params = prompt.params
        if params.stop or prompt.grammar is not None or params.n > 1:
            raise EngineError("Beam search knows no stop strings, json_schema, regex or n; leave them out.")
        most_new = prompt.most_tokens - prompt.prompt_tokens
        live, done = [Hypothesis()], list[Hypothesis]()
        for _ in range(most_new):
            grown = self._grow(live, prompt, next_logits)
            done = self._best([*done, *(one for one in grown if one.ended)])
            live = [one for one in grown if not one.ended][: self.width]
            if not live or self._settled(live[0], done, most_new):
                return done
        return self._best([*done, *live])

    def _grow(
        self,
        live: Sequence[Hypothesis],
        prompt: Text,
        next_logits: Callable[[list[list[int]]], Tensor],
    ) -> list[Hypothesis]:
        # The likeliest continuations by one token: enough that `width` are left when all end tokens are taken out.
        texts = [[*prompt.token_ids, *one.token_ids] for one in live]
        logits = next_logits(texts)  # (live, V)
        shape(logits, [Row(prompt.params, 0, text, prompt.prompt_tokens, prompt.end_ids) for text in texts])
        values, ids = logits.log_softmax(-1).topk(min(self.width + len(prompt.end_ids), logits.shape[-1]))
        grown = [
            Hypothesis((*one.tokens, TokenLogprob(token_id, value)), token_id in prompt.end_ids)
            for one, row_values, row_ids in zip(live, values.tolist(), ids.tolist(), strict=True)
            for value, token_id in zip(row_values, row_ids, strict=True)
            if value > float("-inf")
        ]
        return sorted(grown, key=lambda one: one.logprob, reverse=True)

    def _best(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        return heapq.nlargest(self.width, hypotheses, key=lambda one: one.score(self.length_penalty))

    def _settled(self, best_live: Hypothesis, done: Sequence[Hypothesis], most_new: int) -> bool:
        # Whether nothing that still grows can come to stand among the best: a text only becomes less likely.
        if len(done) < self.width:
            return False
        lengths = (len(best_live.tokens) + 1, most_new)
        return done[-1].score(self.length_penalty) >= max(best_live.score(self.length_penalty, n) for n in lengths)
