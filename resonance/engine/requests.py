"""A request, checked against model and tokenizer, as the texts that answer it."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from resonance.engine.detokenize import Detokenizer
from resonance.engine.params import EngineError, SamplingParams
from resonance.engine.text import Text
from resonance.model import GPT2Config
from resonance.tokenizer import Tokenizer

if TYPE_CHECKING:
    from resonance.engine.grammar import Grammar

SEED_STRIDE = 0x9E3779B97F4A7C15  # keeps a request's n answers apart from requests whose seeds are neighbours


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked for."""

    request_id: str
    prompt_ids: Sequence[int]
    params: SamplingParams
    owner: str | None = None
    priority: int = 0


def make_texts(
    request: Request, config: GPT2Config, tokenizer: Tokenizer | None, eos_ids: frozenset[int]
) -> list[Text]:
    """The n texts of a request: the first, with the others as its siblings, to follow once its prompt is computed.

    Raises EngineError when the model or the tokenizer cannot serve it.
    """
    params = request.params
    prompt_ids = [int(i) for i in request.prompt_ids]
    if not prompt_ids:
        raise EngineError("A prompt needs at least one token; the end-of-text token will do.")
    if len(prompt_ids) > config.context_length:
        raise EngineError(
            f"The prompt has {len(prompt_ids)} tokens but the model's context holds {config.context_length}; "
            "shorten it."
        )
    for what, ids in {"the prompt": prompt_ids, **params.token_ids_named()}.items():
        for place, token_id in enumerate(ids):
            if not 0 <= token_id < config.vocab_size:
                raise EngineError(
                    f"Token id {token_id} at place {place} of {what} is not in the model's vocabulary of "
                    f"{config.vocab_size}; was it made by this model's tokenizer?"
                )
    if params.stop and tokenizer is None:
        raise EngineError(f"Stop strings {params.stop!r} need a tokenizer; give stop_token_ids instead.")
    if (params.json_schema is not None or params.regex is not None) and tokenizer is None:
        raise EngineError("json_schema and regex need a tokenizer.")
    end_ids = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else eos_ids)
    seed = secrets.randbits(63) if params.seed is None else params.seed
    texts = [
        Text(
            request_id=request.request_id,
            token_ids=list(prompt_ids),
            params=params,
            seed=seed + index * SEED_STRIDE,
            end_ids=end_ids,
            most_tokens=min(len(prompt_ids) + params.max_new_tokens, config.context_length + 1),
            owner=request.owner,
            priority=request.priority,
            index=index,
            detokenizer=Detokenizer(partial(_text_bytes, tokenizer), params.stop) if tokenizer else None,
            grammar=_grammar(params, tokenizer, config.vocab_size, end_ids) if tokenizer else None,
        )
        for index in range(params.n)
    ]
    texts[0].siblings = texts[1:]
    return texts


def _grammar(
    params: SamplingParams, tokenizer: Tokenizer, vocab_size: int, end_ids: frozenset[int]
) -> "Grammar | None":
    if params.json_schema is None and params.regex is None:
        return None
    from resonance.engine.grammar import Grammar  # here, because its library takes a while to load

    return Grammar(params, tokenizer, vocab_size, end_ids)


def _text_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    # Special tokens, and ids that only the model's padded vocabulary has, are no text.
    return tokenizer.token_bytes(token_id) if token_id < tokenizer.eot_id else b""
