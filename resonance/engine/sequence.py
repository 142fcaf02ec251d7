"""One text in the making: its tokens, how far its cache reaches, what it asks for, and what became of it."""

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from resonance.engine.detokenizer import Detokenizer
from resonance.engine.outputs import Completion, FinishReason, Piece, TokenLogprob
from resonance.engine.row import Row
from resonance.engine.sampling_params import SamplingParams

if TYPE_CHECKING:
    from resonance.engine.guided_decoding import Grammar

Choice = tuple[int, TokenLogprob | None]  # a token, with its log-probability where that was asked for


@dataclass(slots=True, eq=False)
class Text:
    """One of a request's texts.

    `token_ids` are the prompt's and all chosen so far; the first `computed` of them are in the cache slot.
    """

    request_id: str
    token_ids: list[int]
    params: SamplingParams
    seed: int
    end_ids: frozenset[int]
    most_tokens: int = sys.maxsize  # the text is cut when it has so many, the prompt's included
    owner: str | None = None
    priority: int = 0
    index: int = 0
    detokenizer: Detokenizer | None = None
    grammar: "Grammar | None" = None
    prompt_tokens: int = 0
    slot: int = -1
    computed: int = 0
    cached_tokens: int = 0
    wanted_from: int = 0  # hidden states are wanted of the tokens from here on
    hidden: list[Tensor] | None = None  # collected instead of generating, for embeddings and beam search
    scored_ids: Sequence[int] = ()  # what follows each wanted token: scored instead of generating
    scored_top: int = 0  # how many of the likeliest tokens a score lists
    finish_reason: FinishReason | None = None
    paused: bool = False  # nothing is computed for it
    siblings: "list[Text]" = field(default_factory=list)  # to be queued once the prompt is computed
    read_along: bool = True  # by somebody whom a long step would keep waiting
    pieces: deque[Piece] | None = None  # where its pieces go; None: to whoever calls the engine's step
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.token_ids)
        if self.hidden is None:
            self.wanted_from = self.prompt_tokens - 1

    @property
    def new_ids(self) -> list[int]:
        """The tokens chosen so far."""
        return self.token_ids[self.prompt_tokens :]

    @property
    def is_decoding(self) -> bool:
        """Whether all but the newest token are in the cache and that one was chosen here."""
        return self.computed == len(self.token_ids) - 1 and len(self.token_ids) > self.prompt_tokens

    @property
    def can_be_guessed(self) -> bool:
        """Whether tokens that were not said yet can be chosen as they will be: what keeps a state cannot look ahead."""
        return not self.params.logits_processors and self.grammar is None

    @property
    def generates(self) -> bool:
        """Whether tokens are chosen to follow; a text that is only read gives hidden states or scores."""
        return self.hidden is None and not self.scored_ids

    def row(self, drafted: Sequence[int] = ()) -> Row:
        """What sampling must know to choose the token after these and `drafted`."""
        token_ids = [*self.token_ids, *drafted] if drafted else self.token_ids
        allowed = self.grammar.allowed() if self.grammar else None
        return Row(self.params, self.seed, token_ids, self.prompt_tokens, self.end_ids, allowed)

    def advance(self, chunk: "Chunk", states: Tensor, choices: Sequence[Choice]) -> list[Piece]:
        """Note that a chunk is computed, and take the tokens chosen in its wanted places; what they bring.

        Taken is the first choice, and each further one as long as the draft had guessed the one before it. The
        choices of a text that is scored are the tokens that do follow.
        """
        self.computed = min(chunk.start + len(chunk.token_ids), len(self.token_ids))
        if self.hidden is not None:
            self.hidden.append(states)
            if self.computed == len(self.token_ids):
                self.finish_reason = "stop"
            return []
        if self.scored_ids:
            return self._take_scores(choices)
        pieces: list[Piece] = []
        for place, (token_id, logprob) in enumerate(choices):
            pieces.append(self._say(token_id, logprob))
            if self.finish_reason or place == len(chunk.drafted) or token_id != chunk.drafted[place]:
                break
            self.computed += 1
        return pieces

    def cancel(self) -> Piece:
        """End the text here; its last piece."""
        self.finish_reason = "cancelled"
        rest = self.detokenizer.finish() if self.detokenizer else ""
        return Piece(None, rest, finish_reason="cancelled", index=self.index)

    def completion(self) -> Completion:
        """The finished text."""
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

    def _take_scores(self, choices: Sequence[Choice]) -> list[Piece]:
        scores = tuple(score for _, score in choices if score is not None)
        if self.computed == len(self.token_ids):
            self.finish_reason = "stop"
        self.logprobs += scores
        return [Piece(None, "", finish_reason=self.finish_reason, scores=scores)] if scores else []

    def _say(self, token_id: int, logprob: TokenLogprob | None) -> Piece:
        self.token_ids.append(token_id)
        if logprob is not None:
            self.logprobs.append(logprob)
        said, self.finish_reason = self._take(token_id)
        if self.finish_reason is not None and self.detokenizer is not None:
            said += self.detokenizer.finish()
        value, top = (logprob.logprob, logprob.top_logprobs) if logprob else (None, None)
        return Piece(token_id, said, value, top, self.finish_reason, self.index)

    def _take(self, token_id: int) -> tuple[str, FinishReason | None]:
        # What the newest token brings of the text, and why it is the last one, if it is.
        said, ended = "", token_id in self.end_ids
        if self.detokenizer is not None and not ended:
            said = self.detokenizer.add(token_id)
            if self.detokenizer.stopped:
                return said, "stop"
        if self.grammar is not None:
            if not ended:
                self.grammar.accept(token_id)
            if ended or self.grammar.finished:  # incomplete where bans leave nothing else, or it grew too large
                return said, "stop" if self.grammar.complete else "length"
        return said, "stop" if ended else "length" if len(self.token_ids) >= self.most_tokens else None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of one text's tokens to be computed in this step, `token_ids` at positions from `start` on."""

    text: Text
    start: int
    token_ids: list[int]
    wanted: int  # of how many tokens at the end hidden states are wanted
    drafted: Sequence[int] = ()  # how `token_ids` end: guesses at what the text will say

    @property
    def scored_ids(self) -> Sequence[int]:
        """The tokens to score, one after each wanted token; empty where the text is not scored."""
        end = self.start + len(self.token_ids) - self.text.wanted_from
        return self.text.scored_ids[end - self.wanted : end] if self.text.scored_ids else ()
