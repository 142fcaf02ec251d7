"""From logits to tokens: knows distributions and parameters, nothing of models, caches or text.

Everything works on a whole batch of rows at once, each row with its own parameters. A row's random number
depends on its seed and on how many tokens came before, so that the same request gives the same text whoever
else is in the batch, and a draft that guesses right changes nothing (see `speculate.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from resonance.engine.params import SamplingParams

WINDOW = 512  # so many of the likeliest tokens are sorted at first; all of them only where these cannot suffice
NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Row:
    """What sampling must know of the place that a row of logits predicts."""

    params: SamplingParams
    seed: int
    token_ids: Sequence[int]  # everything before this place
    prompt_tokens: int  # so many of them were given
    end_ids: frozenset[int]  # the tokens that would end the text here
    allowed: Tensor | None = None  # (vocab,) bool: what a grammar lets through; None: everything

    @property
    def place(self) -> int:
        """How many tokens were generated before this one."""
        return len(self.token_ids) - self.prompt_tokens

    @property
    def new_ids(self) -> Sequence[int]:
        """The tokens generated before this one."""
        return self.token_ids[self.prompt_tokens :]


def choose(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """Choose one token for each row of `logits` (rows, vocab) fp32, which is changed in place."""
    if any(row.params.shapes_logits or row.allowed is not None for row in rows):
        shape(logits, rows)
    chosen = logits.argmax(-1).tolist()
    plain = [i for i, row in enumerate(rows) if row.params.temperature > 0 and not row.params.filters]
    filtered = [i for i, row in enumerate(rows) if row.params.temperature > 0 and row.params.filters]
    for which, draw in ((plain, _draw_from_all), (filtered, _draw_from_filtered)):
        if which:
            some = [rows[i] for i in which]
            for i, token_id in zip(which, draw(_tempered(logits, which, some), some), strict=True):
                chosen[i] = token_id
    return chosen


def distribution(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """The probabilities (rows, vocab) that `choose` draws from; `logits` is changed in place."""
    shape(logits, rows)
    probabilities = torch.zeros_like(logits)
    for i, row in enumerate(rows):
        if row.params.temperature == 0:
            probabilities[i, logits[i].argmax()] = 1
        else:
            values, ids = _survivors(_tempered(logits, [i], [row]), [row])
            probabilities[i, ids[0]] = values[0].softmax(-1)
    return probabilities


def shape(logits: Tensor, rows: Sequence[Row]) -> None:
    """Apply penalties, biases, bans, forced tokens, grammars and processors to `logits` (rows, vocab) in place."""
    _penalise(logits, rows)
    for i, row in enumerate(rows):
        params, at = row.params, row.place
        if params.logit_bias:
            ids = torch.tensor(list(params.logit_bias), device=logits.device)
            logits[i, ids] += torch.tensor(list(params.logit_bias.values()), device=logits.device)
        for process in params.logits_processors:
            logits[i] = process(row.new_ids, logits[i])
        if row.allowed is not None:
            logits[i].masked_fill_(~row.allowed, NEVER)
        if params.banned_token_ids:
            logits[i, list(params.banned_token_ids)] = NEVER
        if at < params.min_new_tokens and row.end_ids:
            logits[i, list(row.end_ids)] = NEVER
        if at < len(params.forced_token_ids):
            logits[i] = NEVER
            logits[i, params.forced_token_ids[at]] = 0.0


def logprobs(logits: Tensor, token_ids: Sequence[int], top: int) -> list[tuple[float, tuple[tuple[int, float], ...]]]:
    """Log-probabilities under `logits` (rows, vocab): each row's `token_ids[row]`, and its `top` likeliest."""
    normaliser = logits.logsumexp(-1)  # (rows,)
    ids = torch.tensor(token_ids, device=logits.device)
    chosen = (logits.gather(1, ids[:, None])[:, 0] - normaliser).tolist()
    if not top:
        return [(value, ()) for value in chosen]
    values, best = logits.topk(min(top, logits.shape[-1]))  # (rows, top)
    values = (values - normaliser[:, None]).tolist()
    return [
        (value, tuple(zip(row_ids, row_values, strict=True)))
        for value, row_ids, row_values in zip(chosen, best.tolist(), values, strict=True)
    ]


def uniform(seed: int, place: int) -> float:
    """A number in (0, 1), the same for the same seed and place: two rounds of SplitMix64 (Steele et al. 2014)."""
    mixed = _mix(_mix(seed & MASK64) + place)
    return ((mixed >> 11) + 0.5) * 2.0**-53


MASK64 = (1 << 64) - 1


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)


def _penalise(logits: Tensor, rows: Sequence[Row]) -> None:
    which = [
        i
        for i, row in enumerate(rows)
        if row.params.repetition_penalty != 1 or row.params.presence_penalty or row.params.frequency_penalty
    ]
    if not which:
        return
    some = [rows[i] for i in which]
    generated = _counts(logits, [row.new_ids for row in some])  # (some, vocab)
    seen = _counts(logits, [row.token_ids for row in some]) > 0
    repetition, presence, frequency = (
        _column(logits, [getattr(row.params, name) for row in some])
        for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")
    )
    values = logits[which]
    penalised = torch.where(values > 0, values / repetition, values * repetition)
    values = torch.where(seen, penalised, values)
    logits[which] = values - presence * (generated > 0) - frequency * generated


def _counts(logits: Tensor, histories: Sequence[Sequence[int]]) -> Tensor:
    counts = torch.zeros(len(histories), logits.shape[-1], device=logits.device)
    for row, history in enumerate(histories):
        ids = torch.tensor(list(history), dtype=torch.long, device=logits.device)
        counts[row].index_add_(0, ids, torch.ones(len(history), device=logits.device))
    return counts


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]  # (rows, 1)


def _tempered(logits: Tensor, which: Sequence[int], rows: Sequence[Row]) -> Tensor:
    temperature = _column(logits, [row.params.temperature for row in rows]).clamp_min(1e-6)
    return (logits if len(which) == len(logits) else logits[list(which)]) / temperature


def _draw_from_all(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    return _invert((logits - logits.amax(-1, keepdim=True)).exp_(), rows).tolist()


def _draw_from_filtered(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    values, ids = _survivors(logits, rows)
    at = _invert(values.softmax(-1), rows)  # (rows,)
    return ids.gather(1, at[:, None])[:, 0].tolist()


def _invert(weights: Tensor, rows: Sequence[Row]) -> Tensor:
    # The inverse of each row's distribution function at its random number; double, for the tail's sake.
    cumulative = weights.cumsum(-1, dtype=torch.float64)
    numbers = [uniform(row.seed, row.place) for row in rows]
    drawn = torch.tensor(numbers, dtype=torch.float64, device=weights.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, drawn, right=True)[:, 0].clamp_max(weights.shape[-1] - 1)


def _survivors(logits: Tensor, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    # Logits of the likeliest tokens, likeliest first, and their ids, (rows, k) each; -inf where filtered out.
    # A window is enough when, for every row, what a filter keeps ends inside it.
    vocab = logits.shape[-1]
    typical = any(row.params.typical_p < 1 for row in rows)
    window = max([WINDOW, *(row.params.top_k for row in rows)])
    if typical or window >= vocab or not all(row.params.filters for row in rows):
        values, ids = logits.sort(dim=-1, descending=True, stable=True)
        return _filter(values, rows), ids
    values, ids = logits.topk(window)
    mass = (values - logits.logsumexp(-1, keepdim=True)).exp().sum(-1).tolist()
    spread = (values[:, 0] - values[:, -1]).exp().reciprocal().tolist()  # how likely the last is beside the first
    for row, covered, last in zip(rows, mass, spread, strict=True):
        params = row.params
        if not (params.top_k or (params.top_p < 1 and covered >= params.top_p) or last < params.min_p):
            values, ids = logits.sort(dim=-1, descending=True, stable=True)
            break
    return _filter(values, rows, logits.logsumexp(-1, keepdim=True)), ids


def _filter(values: Tensor, rows: Sequence[Row], normaliser: Tensor | None = None) -> Tensor:
    # `values` (rows, k) sorted, likeliest first; `normaliser` (rows, 1) when they are not the whole vocabulary.
    ranks = torch.arange(values.shape[-1], device=values.device)
    if any(row.params.top_k for row in rows):
        limits = _column(values, [row.params.top_k or values.shape[-1] for row in rows])
        values = values.masked_fill(ranks >= limits, NEVER)
        cut = _column(values, [float(row.params.top_k > 0) for row in rows]) > 0
        own = values.logsumexp(-1, keepdim=True)
        normaliser = own if normaliser is None else torch.where(cut, own, normaliser)
    if any(row.params.top_p < 1 for row in rows):
        limits = _column(values, [row.params.top_p for row in rows])
        probabilities = (values - (values.logsumexp(-1, keepdim=True) if normaliser is None else normaliser)).exp()
        before = probabilities.cumsum(-1) - probabilities  # the mass of the likelier ones
        values = values.masked_fill((before >= limits) & (limits < 1), NEVER)
    if any(row.params.min_p > 0 for row in rows):
        limits = _column(values, [row.params.min_p for row in rows])
        values = values.masked_fill((values - values[:, :1]).exp() < limits, NEVER)
    if any(row.params.typical_p < 1 for row in rows):
        values = _typical(values, rows)
    return values


def _typical(values: Tensor, rows: Sequence[Row]) -> Tensor:
    limits = _column(values, [row.params.typical_p for row in rows])
    logs = values.log_softmax(-1)
    probabilities = logs.exp()
    entropy = -(probabilities * logs).nan_to_num(0).sum(-1, keepdim=True)
    distance = (-logs - entropy).abs().nan_to_num(posinf=float("inf"))  # the left-out are infinitely far
    order = distance.argsort(dim=-1, stable=True)
    ranked = probabilities.gather(1, order)
    far = ranked.cumsum(-1) - ranked >= limits  # the nearer ones reach the mass already
    out = torch.zeros_like(far).scatter(1, order, far) & (limits < 1)
    return values.masked_fill(out, NEVER)
