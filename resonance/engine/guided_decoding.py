"""Guided decoding: the tokens that keep a text within a JSON schema or a regular expression.

llguidance (Microsoft, MIT) does the matching: its parser walks the bytes of all tokens at once.
"""

import json
from collections.abc import Sequence
from functools import lru_cache

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance._tokenizer import TokenizerWrapper
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.sampling_params import EngineError, SamplingParams
from resonance.tokenizer import Tokenizer


class Grammar:
    """The state of one sequence in its grammar.

    Raises EngineError for an unusable schema or expression, or when the model lacks some of the tokenizer's tokens.
    """

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer, vocab_size: int, end_ids: frozenset[int]) -> None:
        if vocab_size < tokenizer.vocab_size:
            raise EngineError(
                f"json_schema and regex need a model of all {tokenizer.vocab_size} tokens of the tokenizer; this one "
                f"has {vocab_size}."
            )
        self._vocab_size = vocab_size
        vocabulary = _vocabulary(tokenizer, tuple(sorted(end_ids)))
        self._matcher = LLMatcher(vocabulary, _rules(params), log_level=0)
        if self._matcher.is_error():
            reason = self._matcher.get_error().split("\n")[0]
            name = "json_schema" if params.json_schema is not None else "regex"
            raise EngineError(f"{name} cannot be used as a grammar: {reason}")
        self._bits = torch.zeros((vocabulary.vocab_size + 31) // 32, dtype=torch.int32)

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

    def allowed(self) -> Tensor:
        """The tokens that may come next, (vocab_size,) bool; end tokens are among them when the text may end."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.data_ptr(), self._bits.nbytes)
        shifts = torch.arange(32, dtype=torch.int32)
        allowed = ((self._bits[:, None] >> shifts) & 1).flatten().bool()
        return F.pad(allowed, (0, self._vocab_size - len(allowed)))  # a negative pad cuts

    def accept(self, token_id: int) -> None:
        """Advance by an allowed token."""
        self._matcher.consume_token(token_id)


def _rules(params: SamplingParams) -> str:
    if params.json_schema is None:
        return LLMatcher.grammar_from_regex(params.regex or "")
    schema = params.json_schema
    try:
        return LLMatcher.grammar_from_json_schema(schema if isinstance(schema, str) else json.dumps(dict(schema)))
    except (ValueError, TypeError) as error:
        raise EngineError(f"json_schema is not a JSON object: {error}") from error


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
