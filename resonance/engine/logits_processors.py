"""What a request does to logits before a token is taken: penalties, biases, bans, grammars, processors."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from resonance.engine.row import Row
from resonance.engine.sampling_params import EngineError

NEVER = float("-inf")


def shape(logits: Tensor, rows: Sequence[Row]) -> None:
    """Apply what the rows ask for to `logits` (rows, vocab) fp32 in place; rows that ask for nothing cost nothing."""
    _penalise(logits, rows)
    for i, row in enumerate(rows):
        if row.shapes_logits:
            _shape_one(logits[i], row)


def _shape_one(logits: Tensor, row: Row) -> None:
    # (vocab,) in place
    params, place = row.params, row.place
    if params.logit_bias:
        biases = torch.tensor(list(params.logit_bias.values()), dtype=torch.float32, device=logits.device)
        logits[list(params.logit_bias)] += biases
    for process in params.logits_processors:
        logits.copy_(process(row.new_ids, logits))
    if row.allowed is not None:
        logits.masked_fill_(~row.allowed.to(logits.device), NEVER)
    if params.banned_token_ids:
        logits[list(params.banned_token_ids)] = NEVER
    if place < params.min_new_tokens and row.end_ids:
        logits[list(row.end_ids)] = NEVER
    if row.may_leave_nothing and logits.max() == NEVER:
        _end(logits, row)
    if place < len(params.forced_token_ids):
        logits.fill_(NEVER)
        logits[params.forced_token_ids[place]] = 0.0


def _end(logits: Tensor, row: Row) -> None:
    # What a grammar, bans and processors leave no token for ends here.
    if not row.end_ids:
        raise EngineError(
            f"Bans or logits processors leave no token after {len(row.token_ids)}, and none that ends the text."
        )
    logits[list(row.end_ids)] = 0.0


def _penalise(logits: Tensor, rows: Sequence[Row]) -> None:
    # Only the tokens that occurred are touched, those of all rows at once.
    at: list[int] = []
    ids: list[int] = []
    repetition: list[float] = []
    subtracted: list[float] = []
    for i, row in enumerate(rows):
        params = row.params
        if params.repetition_penalty == 1 and not (params.presence_penalty or params.frequency_penalty):
            continue
        times = Counter(row.new_ids)
        seen = set(row.token_ids)
        at += [i] * len(seen)
        ids += seen
        repetition += [params.repetition_penalty] * len(seen)
        subtracted += [
            params.presence_penalty + params.frequency_penalty * times[token_id] if token_id in times else 0.0
            for token_id in seen
        ]
    if not ids:
        return
    where = (torch.tensor(at, device=logits.device), torch.tensor(ids, device=logits.device))
    factors = torch.tensor(repetition, device=logits.device)
    values = logits[where]  # (occurred,)
    values = torch.where(values > 0, values / factors, values * factors)
    logits[where] = values - torch.tensor(subtracted, device=logits.device)
