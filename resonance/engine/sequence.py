"""A sequence: its tokens, how many of them are computed, its sampling parameters and its state."""

import sys
from collections import abc, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from resonance.engine.detokenizer import Detokenizer
from resonance.engine.outputs import Completion, FinishReason, Piece, TokenLogprob
from resonance.engine.sampling_params import SamplingMetadata, SamplingParams

if TYPE_CHECKING:
    from resonance.engine.guided_decoding import Grammar

SampledToken = tuple[int, TokenLogprob | None]  # with its log-probability where the request asked for it


@dataclass(slots=True, eq=False, weakref_slot=True)
class Sequence:
    """One of the n sequences of a request.

    `token_ids` are the prompt's and all generated so far; the keys and values of the first `computed_tokens` of them
    are in the cache slot.
    """

    request_id: str
    token_ids: list[int]
    params: SamplingParams
    seed: int
    end_ids: frozenset[int]
    max_length: int = sys.maxsize  # tokens, the prompt's included
    owner: str | None = None
    priority: int = 0
    index: int = 0
    detokenizer: Detokenizer | None = None
    grammar: "Grammar | None" = None
    prompt_tokens: int = 0
    slot: int = -1
    computed_tokens: int = 0
    cached_tokens: int = 0
    hidden_from: int = 0  # the hidden states of the tokens from this position on are needed
    consumer: "HiddenStatesConsumer | None" = None  # takes them in place of the sampler: no token is generated
    finish_reason: FinishReason | None = None
    paused: bool = False
    siblings: "list[Sequence]" = field(default_factory=list)  # queued once the prompt they share is in the cache
    streaming: bool = True  # a client waits for each token of this sequence, so long steps would delay it
    background: bool = False  # computed with what decoding sequences and prompts leave of a step
    pieces: deque[Piece] | None = None  # where its pieces go; None: to the caller of the engine's `step`
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.token_ids)
        self.hidden_from = self.prompt_tokens - 1

    @property
    def new_ids(self) -> list[int]:
        """The tokens generated so far."""
        return self.token_ids[self.prompt_tokens :]

    @property
    def is_decoding(self) -> bool:
        """Whether only the newest token, which was generated, has yet to be computed."""
        return self.computed_tokens == len(self.token_ids) - 1 and len(self.token_ids) > self.prompt_tokens

    @property
    def can_be_drafted(self) -> bool:
        """Whether drafted tokens can be verified; the state of grammars and logits processors cannot look ahead."""
        return not self.params.logits_processors and self.grammar is None

    def sampling_metadata(self, drafted: abc.Sequence[int] = ()) -> SamplingMetadata:
        """The metadata for sampling the token after `token_ids` and `drafted`."""
        token_ids = [*self.token_ids, *drafted] if drafted else self.token_ids
        allowed = self.grammar.allowed(self.max_length - len(token_ids)) if self.grammar else None
        return SamplingMetadata(self.params, self.seed, token_ids, self.prompt_tokens, self.end_ids, allowed)

    def advance(self, chunk: "Chunk", sampled: abc.Sequence[SampledToken] = ()) -> list[Piece]:
        """Mark a chunk as computed and append the tokens sampled after it; return their pieces.

        The first sampled token is always appended, and each further one while the drafted token before it was right.
        A sequence that generates nothing finishes when all its tokens are computed.
        """
        self.computed_tokens = min(chunk.start + len(chunk.token_ids), len(self.token_ids))
        if self.consumer is not None and self.computed_tokens == len(self.token_ids):
            self.finish_reason = "stop"
        pieces: list[Piece] = []
        for i, (token_id, logprob) in enumerate(sampled):
            pieces.append(self._append(token_id, logprob))
            if self.finish_reason or i == len(chunk.drafted) or token_id != chunk.drafted[i]:
                break
            self.computed_tokens += 1
        return pieces

    def cancel(self) -> Piece:
        """End the sequence; return its last piece."""
        self.finish_reason = "cancelled"
        rest = self.detokenizer.finish() if self.detokenizer else ""
        return Piece(None, rest, finish_reason="cancelled", index=self.index)

    def completion(self) -> Completion:
        """The finished sequence as a completion."""
        token_ids, logprobs = self.new_ids, self.logprobs
        kept = len(token_ids) - (bool(token_ids) and token_ids[-1] in self.end_ids)
        if self.detokenizer is not None:
            kept = min(kept, self.detokenizer.tokens_in_text)
        return Completion(
            token_ids=token_ids[:kept],
            text=self.detokenizer.text if self.detokenizer else "",
            finish_reason=self.finish_reason or "cancelled",
            logprobs=None if self.params.logprobs is None else logprobs[:kept],
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            index=self.index,
        )

    def _append(self, token_id: int, logprob: TokenLogprob | None) -> Piece:
        self.token_ids.append(token_id)
        if logprob is not None:
            self.logprobs.append(logprob)
        text, self.finish_reason = self._text_and_finish_reason(token_id)
        if self.finish_reason is not None and self.detokenizer is not None:
            text += self.detokenizer.finish()
        value, top = (logprob.logprob, logprob.top_logprobs) if logprob else (None, None)
        return Piece(token_id, text, value, top, self.finish_reason, self.index)

    def _text_and_finish_reason(self, token_id: int) -> tuple[str, FinishReason | None]:
        text, ended = "", token_id in self.end_ids
        if self.detokenizer is not None and not ended:
            text = self.detokenizer.add(token_id)
            if self.detokenizer.stopped:
                return text, "stop"
        if self.grammar is not None:
            if not ended:
                self.grammar.accept(token_id)
            if ended or self.grammar.finished:  # the text is incomplete where bans exclude every other token
                return text, "stop" if self.grammar.complete else "length"
        return text, "stop" if ended else "length" if len(self.token_ids) >= self.max_length else None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence that a step computes: `token_ids` at positions from `start` on."""

    sequence: Sequence
    start: int
    token_ids: list[int]
    hidden_count: int  # how many of its last tokens' hidden states the runner returns
    drafted: abc.Sequence[int] = ()  # the last of `token_ids`: drafted, to be verified


class HiddenStatesConsumer(Protocol):
    """Consumes the hidden states of a step's chunks: the sampler generates, others score tokens or keep the states."""

    def consume(
        self, chunks: abc.Sequence[Chunk], hidden: abc.Sequence[Tensor]
    ) -> abc.Iterable[tuple[Chunk, list[Piece]]]:
        """Advance the chunks' sequences and return the pieces of each.

        `hidden` has each chunk's hidden states, (hidden_count, n_embd). A sequence that was cancelled meanwhile is
        left out.
        """
        ...
