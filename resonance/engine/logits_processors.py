"""Logits processors: penalties, biases, bans, grammars and a request's own functions, before sampling."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from resonance.engine.sampling_params import EngineError, SamplingMetadata
from resonance.pinned_memory import tensor_on, to_device

EXCLUDED = float("-inf")


def process_logits(logits: Tensor, rows: Sequence[SamplingMetadata]) -> None:
    """Change `logits` (rows, vocab) fp32 in position as each row's parameters say; rows without any are free."""
    _penalise(logits, rows)
    for i, row in enumerate(rows):
        if row.changes_logits:
            _process_row(logits[i], row)


def _process_row(logits: Tensor, row: SamplingMetadata) -> None:
    # (vocab,) in position
    params, position, device = row.params, row.position, logits.device
    if params.logit_bias:
        logits[tensor_on(device, list(params.logit_bias))] += tensor_on(
            device, list(params.logit_bias.values()), torch.float32
        )
    for process in params.logits_processors:
        logits.copy_(process(row.new_ids, logits))
    if row.allowed is not None:
        logits.masked_fill_(~to_device(row.allowed, device), EXCLUDED)
    if params.banned_token_ids:
        logits.index_fill_(0, tensor_on(device, params.banned_token_ids), EXCLUDED)
    if position < params.min_new_tokens and row.end_ids:
        logits.index_fill_(0, tensor_on(device, list(row.end_ids)), EXCLUDED)
    if row.may_exclude_all and logits.max() == EXCLUDED:
        _allow_end(logits, row)
    if position < len(params.forced_token_ids):
        logits.fill_(EXCLUDED)
        logits[params.forced_token_ids[position]] = 0.0


def _allow_end(logits: Tensor, row: SamplingMetadata) -> None:
    # Grammar, bans and processors exclude every token: end the sequence.
    if not row.end_ids:
        raise EngineError(
            f"Bans or logits processors leave no token after {len(row.token_ids)}, and none that ends the text."
        )
    logits.index_fill_(0, tensor_on(logits.device, list(row.end_ids)), 0.0)


def _penalise(logits: Tensor, rows: Sequence[SamplingMetadata]) -> None:
    # One indexed update over the tokens that occurred in any of the rows.
    row_indices: list[int] = []
    ids: list[int] = []
    repetition: list[float] = []
    subtrahends: list[float] = []
    for i, row in enumerate(rows):
        params = row.params
        if params.repetition_penalty == 1 and not (params.presence_penalty or params.frequency_penalty):
            continue
        counts = Counter(row.new_ids)
        seen = set(row.token_ids)
        row_indices += [i] * len(seen)
        ids += seen
        repetition += [params.repetition_penalty] * len(seen)
        subtrahends += [
            params.presence_penalty + params.frequency_penalty * counts[token_id] if token_id in counts else 0.0
            for token_id in seen
        ]
    if not ids:
        return
    device = logits.device
    indices, factors = (tensor_on(device, row_indices), tensor_on(device, ids)), tensor_on(device, repetition)
    values = logits[indices]  # (occurred,)
    values = torch.where(values > 0, values / factors, values * factors)
    logits[indices] = values - tensor_on(device, subtrahends)
