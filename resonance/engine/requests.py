"""Requests: validated against the model and the tokenizer, and turned into sequences."""

import secrets
from collections import abc
from functools import partial
from operator import index
from reprlib import repr as shortened
from typing import TYPE_CHECKING

from resonance.engine.detokenizer import Detokenizer
from resonance.engine.sampling_params import EngineError, SamplingParams
from resonance.engine.sequence import Sequence
from resonance.model_config import GPT2Config
from resonance.tokenizer import Tokenizer

if TYPE_CHECKING:
    from resonance.engine.guided_decoding import Grammar

SEED_STRIDE = 0x9E3779B97F4A7C15  # between a request's n sequences, far from the seeds of other requests


def make_sequences(
    request_id: str,
    prompt_ids: abc.Sequence[int],
    params: SamplingParams,
    owner: str | None,
    priority: int,
    config: GPT2Config,
    tokenizer: Tokenizer | None,
    eos_ids: frozenset[int],
) -> list[Sequence]:
    """Create a request's n sequences, the first with the others as its siblings.

    Raises EngineError when the model or the tokenizer cannot serve the request.
    """
    prompt_ids = checked_ids("the prompt", prompt_ids, config.vocab_size)
    if not prompt_ids:
        raise EngineError("A prompt needs at least one token; the end-of-text token will do.")
    if len(prompt_ids) > config.context_length:
        raise EngineError(
            f"The prompt has {len(prompt_ids)} tokens but the model's context holds {config.context_length}; "
            "shorten it."
        )
    for name, ids in params.token_ids_named().items():
        checked_ids(name, ids, config.vocab_size)
    try:
        priority = index(priority)
    except TypeError:
        raise EngineError(f"priority must be a whole number, not {priority!r}.") from None
    if len(set(params.banned_token_ids)) == config.vocab_size:
        raise EngineError("banned_token_ids leave no token of the vocabulary to choose; ban fewer.")
    if params.stop and tokenizer is None:
        raise EngineError(f"Stop strings {params.stop!r} need a tokenizer; give stop_token_ids instead.")
    if params.has_grammar and tokenizer is None:
        raise EngineError("json_schema and regex need a tokenizer.")
    ignored = params.ignore_eos and not params.has_grammar  # a grammar needs an end token
    end_ids = frozenset(params.stop_token_ids) | (frozenset() if ignored else eos_ids)
    seed = secrets.randbits(63) if params.seed is None else int(params.seed)
    sequences = [
        Sequence(
            request_id=request_id,
            token_ids=list(prompt_ids),
            params=params,
            seed=seed + index * SEED_STRIDE,
            end_ids=end_ids,
            max_length=min(len(prompt_ids) + params.max_new_tokens, config.context_length + 1),
            owner=owner,
            priority=priority,
            index=index,
            detokenizer=Detokenizer(partial(_text_bytes, tokenizer), params.stop) if tokenizer else None,
            grammar=_grammar(params, tokenizer, config.vocab_size, end_ids) if tokenizer else None,
        )
        for index in range(params.n)
    ]
    sequences[0].siblings = sequences[1:]
    return sequences


def end_of_text_ids(config: GPT2Config, tokenizer: Tokenizer | None, eos_id: int | None) -> frozenset[int]:
    """The tokens that end every sequence: `eos_id`, and the tokenizer's end-of-text token if the model has it.

    Raises EngineError when `eos_id` is not in the model's vocabulary.
    """
    if eos_id is not None:
        checked_ids("eos_id", [eos_id], config.vocab_size)
    ids = (eos_id, tokenizer and tokenizer.eot_id)
    return frozenset(i for i in ids if i is not None and i < config.vocab_size)


def checked_ids(name: str, token_ids: abc.Sequence[int], vocab_size: int) -> list[int]:
    """Validate token ids and return them as a list. Raises EngineError, which calls them `name`, for an invalid one."""
    try:
        ids = [index(i) for i in token_ids]
    except TypeError:
        raise EngineError(
            f"{name.capitalize()} must be a sequence of token ids, not {shortened(token_ids)}; a tokenizer's encode "
            "makes one of a text."
        ) from None
    for position, token_id in enumerate(ids):
        if not 0 <= token_id < vocab_size:
            raise EngineError(
                f"Token id {token_id} at place {position} of {name} is not in the model's vocabulary of {vocab_size}; "
                "was it made by this model's tokenizer?"
            )
    return ids


def _grammar(
    params: SamplingParams, tokenizer: Tokenizer, vocab_size: int, end_ids: frozenset[int]
) -> "Grammar | None":
    if not params.has_grammar:
        return None
    from resonance.engine.guided_decoding import Grammar  # here: its library is slow to import

    grammar = Grammar(params, tokenizer, vocab_size, end_ids)
    forced = params.forced_token_ids
    valid = grammar.count_valid(forced)
    if valid < len(forced):
        raise EngineError(
            f"forced_token_ids does not fit {params.grammar_name}: token id {forced[valid]} at place {valid} "
            "cannot stand there."
        )
    return grammar


def _text_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    # Special tokens, and ids of the model's padded vocabulary alone, have no text.
    return tokenizer.token_bytes(token_id) if token_id < tokenizer.eot_id else b""
