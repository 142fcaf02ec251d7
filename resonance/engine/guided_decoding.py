"""Guided decoding: the tokens that keep a text within a JSON schema, a regular expression or a grammar.

llguidance (Microsoft, MIT) does the matching: its parser walks the bytes of all tokens at once. A text that would not
end within its tokens is closed: towards its end, only the tokens of a short way to a complete text are allowed.
"""

import json
import sys
from collections.abc import Sequence
from functools import cached_property, lru_cache

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance._tokenizer import TokenizerWrapper
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.sampling_params import EngineError, SamplingParams
from resonance.tokenizer import Tokenizer

_CHECK_EVERY = 8  # tokens, while the end is far
_RETRY_EVERY = 64  # tokens, where no way to the end was found
_SLACK = 4  # tokens by which one more token may lengthen the way to a complete text
_LONGEST_WAY = 512  # tokens


class Grammar:
    """The state of one sequence in its grammar.

    Raises EngineError for an unusable schema or expression, or when the model lacks some of the tokenizer's tokens.
    """

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer, vocab_size: int, end_ids: frozenset[int]) -> None:
        if vocab_size < tokenizer.vocab_size:
            raise EngineError(
                f"A grammar needs a model of all {tokenizer.vocab_size} tokens of the tokenizer; this one "
                f"has {vocab_size}."
            )
        self._vocab_size = vocab_size
        vocabulary = _vocabulary(tokenizer, tuple(sorted(end_ids)))
        self._matcher = LLMatcher(vocabulary, _rules(params), log_level=0)
        if self._matcher.is_error():
            raise _unusable(params, self._matcher.get_error())
        self._tokenizer, self._end_ids = tokenizer, sorted(end_ids)
        self._check_at: int | None = None  # the number of tokens left at which the way to the end is looked at again
        self._is_closing = False
        self._bits = torch.zeros((vocabulary.vocab_size + 31) // 32, dtype=torch.int32)
        # The optional part: what begins it, the end of the text so far, and whether one has begun.
        self._trigger = (params.grammar_trigger or "").encode()
        self._tail, self._has_begun = b"", False
        self._start = self._matcher.deep_copy() if self._trigger else None

    def count_valid(self, token_ids: Sequence[int]) -> int:
        """The number of leading tokens of these that the grammar allows next."""
        return self._matcher.validate_tokens(list(token_ids))

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return self._matcher.is_accepting()

    @property
    def finished(self) -> bool:
        """Whether no token may follow: the text is complete, or the grammar too large for the library."""
        return self._matcher.is_stopped()

    def allowed(self, left: int | None = None) -> Tensor:
        """The tokens that may come next, (vocab_size,) bool; end tokens are among them when the text may end.

        `left` is how many tokens may still come; None: no limit. Where they would not suffice for whatever may come
        next, only a token that leads to the end is allowed.
        """
        if left is not None and self._trigger and self.complete and not self._is_closing:
            return self._allowed_outside(left)
        if left is not None and (self._is_closing or self._check_at is None or left <= self._check_at):
            way = self._way_to_end()
            if way is None:
                self._check_at = left - _RETRY_EVERY
            else:
                self._is_closing = self._is_closing or len(way) + _SLACK >= left
                self._check_at = left - (1 if left <= 2 * len(way) + 64 else _CHECK_EVERY)
                if self._is_closing:
                    allowed = torch.zeros(self._vocab_size, dtype=torch.bool)
                    allowed[way[:1] or self._end_ids] = True
                    return allowed
        return self._padded(self._allowed_by(self._matcher))

    def _allowed_outside(self, left: int) -> Tensor:
        """The tokens that may come where the text may end: those that begin an optional part only where it fits."""
        allowed = self._padded(self._allowed_by(self._matcher))
        if left > self._optional_tokens + _SLACK:
            return allowed
        if self._has_begun:  # only the end, or another part
            allowed[:] = False
            allowed[self._end_ids] = True
            return allowed
        for size in range(len(self._trigger)):
            if self._tail.endswith(self._trigger[:size]):
                allowed[_ids_starting(self._tokenizer, self._trigger[size:])] = False
        return allowed

    @cached_property
    def _optional_tokens(self) -> int:
        """The tokens of a short optional part; a part longer than any that is looked for is never begun."""
        assert self._start is not None
        begin = self._tokenizer.encode("\n" + self._trigger.decode())
        consumed = self._start.consume_tokens(self._tokenizer.encode(self._trigger.decode()))
        way = self._way(b'"}],:', _LONGEST_WAY, self._start) if consumed else None
        return sys.maxsize - _SLACK if way is None else len(begin) + len(way)

    def _padded(self, allowed: Tensor) -> Tensor:
        return F.pad(allowed, (0, self._vocab_size - len(allowed)))  # a negative pad cuts

    def _allowed_by(self, matcher: LLMatcher) -> Tensor:
        matcher.unsafe_compute_mask_ptr(self._bits.data_ptr(), self._bits.nbytes)
        shifts = torch.arange(32, dtype=torch.int32)
        return ((self._bits[:, None] >> shifts) & 1).flatten().bool()

    def _way_to_end(self) -> list[int] | None:
        """A short sequence of tokens that completes the text; None where none of at most 512 tokens is found.

        A quote ends an open string, in which a bracket is text; elsewhere a bracket ends more. The shorter way counts.
        """
        way = self._way(b'"}],:', _LONGEST_WAY)
        shorter = self._way(b'}],:"', _LONGEST_WAY if way is None else len(way) - 1)
        return way if shorter is None else shorter

    def _way(self, first: bytes, longest: int, matcher: LLMatcher | None = None) -> list[int] | None:
        """A way to a complete text of at most `longest` tokens, which prefers the tokens of the bytes `first`."""
        matcher, way = (matcher or self._matcher).deep_copy(), list[int]()
        ids = _byte_ids(self._tokenizer, first)
        while not matcher.is_accepting():
            tokens = self._tokenizer.encode(matcher.compute_ff_bytes().decode("utf-8", "ignore"))
            tokens = tokens[: matcher.validate_tokens(tokens)] or self._closing_token(matcher, ids)
            if not tokens or len(way) + len(tokens) > longest or not matcher.consume_tokens(tokens):
                return None
            way += tokens
        return way

    def _closing_token(self, matcher: LLMatcher, ids: Sequence[int]) -> list[int]:
        """The first of these ids that is allowed, else any allowed token; nothing where only the end is."""
        allowed = self._allowed_by(matcher)
        chosen = next((token_id for token_id in ids if allowed[token_id]), None)
        others = allowed.nonzero()[:1, 0].tolist() if chosen is None else [chosen]
        return [] if others[:1] == self._end_ids[:1] else others

    def accept(self, token_id: int) -> None:
        """Advance by an allowed token."""
        self._matcher.consume_token(token_id)
        if self._trigger and not self._has_begun:
            text = self._tail + self._tokenizer.token_bytes(token_id)
            self._has_begun, self._tail = self._trigger in text, text[1 - len(self._trigger) :]


def check_grammar(params: SamplingParams) -> None:
    """Raise EngineError for an unusable schema, expression or grammar; needs no model and takes a moment."""
    if message := LLMatcher.validate_grammar(_rules(params)):
        raise _unusable(params, message)


def _unusable(params: SamplingParams, message: str) -> EngineError:
    return EngineError(f"{params.grammar_name} cannot be used as a grammar: {message.split(chr(10), maxsplit=1)[0]}")


def _rules(params: SamplingParams) -> str:
    if params.regex is not None:
        return LLMatcher.grammar_from_regex(params.regex)
    if params.grammar is not None:
        return LLMatcher.grammar_from_lark(params.grammar)
    schema = params.json_schema or {}
    try:
        return LLMatcher.grammar_from_json_schema(schema if isinstance(schema, str) else json.dumps(dict(schema)))
    except (ValueError, TypeError) as error:
        raise EngineError(f"json_schema is not a JSON object: {error}") from error


@lru_cache(maxsize=8)
def _byte_ids(tokenizer: Tokenizer, first: bytes) -> list[int]:
    """The tokens of single printable bytes: those of `first`, then digits and letters, then others."""
    by_byte = {tokenizer.token_bytes(i): i for i in range(tokenizer.eot_id) if len(tokenizer.token_bytes(i)) == 1}
    printable = bytes(range(33, 127))
    others = bytes(byte for byte in printable if not chr(byte).isalnum() and byte not in first)
    alphanumeric = bytes(byte for byte in printable if chr(byte).isalnum())
    return [by_byte[bytes([byte])] for byte in first + alphanumeric + others if bytes([byte]) in by_byte]


@lru_cache(maxsize=32)
def _ids_starting(tokenizer: Tokenizer, start: bytes) -> list[int]:
    """The tokens whose bytes begin so."""
    return [i for i in range(tokenizer.eot_id) if tokenizer.token_bytes(i).startswith(start)]


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: Tokenizer, end_ids: tuple[int, ...]) -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_LLGuidanceTokenizer(tokenizer, end_ids[0])), eos_token=list(end_ids))


class _LLGuidanceTokenizer:
    # The interface of a tokenizer that llguidance expects.
    def __init__(self, tokenizer: Tokenizer, end_id: int) -> None:
        self.eos_token_id, self.bos_token_id = end_id, None
        self.tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        self.special_token_ids = list(tokenizer.special_tokens.values())
        self._tokenizer = tokenizer

    def __call__(self, text: str | bytes) -> Sequence[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode("utf-8"))
