"""From logits to tokens: knows distributions and parameters, nothing of models, caches or text.

Everything works on a whole batch of rows at once, each row with its own parameters. A row's random number
depends on its seed and on how many tokens came before, so that the same request gives the same text whoever
else is in the batch, and a draft that guesses right changes nothing (see `speculate.py`).

A row of weights is a distribution that is not normalised: each token's probability over the likeliest one's,
and 0 where a filter left it out. Nothing needs the vocabulary in order of likelihood; top-p needs only the weight
down to which it keeps tokens, for which the weights alone are sorted.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.logits_processors import shape
from resonance.engine.row import Row

BLOCK = 128  # weights are added up by blocks first, so that running sums of the whole vocabulary are not needed
COLDEST = 1e-6  # the least temperature at which there is anything to draw


def choose(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """Choose one token for each row of `logits` (rows, vocab) fp32, which rows that shape it change in place."""
    groups: dict[tuple[Callable[[Tensor, Sequence[Row]], list[int]], int], list[int]] = {}
    for i, row in enumerate(rows):
        k = row.params.top_k
        draw = _likeliest if row.params.temperature == 0 else _draw_from_few if k else _draw_from_all
        groups.setdefault((draw, k if draw is _draw_from_few else 0), []).append(i)
    chosen = [0] * len(rows)
    with single_thread():
        shape(logits, rows)
        for (draw, _), which in groups.items():
            some = logits if len(which) == len(rows) else logits[which]
            for i, token_id in zip(which, draw(some, [rows[i] for i in which]), strict=True):
                chosen[i] = token_id
    return chosen


def distribution(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """The probabilities (rows, vocab) that `choose` draws from; `logits` is changed in place by rows that shape it."""
    shape(logits, rows)
    probabilities = torch.zeros_like(logits)
    for i, row in enumerate(rows):
        if row.params.temperature == 0:
            probabilities[i, logits[i].argmax()] = 1
        else:
            weights, ids = (
                _few(logits[i : i + 1], [row]) if row.params.top_k else (_all(logits[i : i + 1], [row]), None)
            )
            values = weights[0] / weights[0].sum()
            if ids is None:
                probabilities[i] = values[: logits.shape[-1]]
            else:
                probabilities[i, ids[0]] = values[: ids.shape[-1]]
    return probabilities


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


@contextmanager
def single_thread() -> Generator[None]:
    """Let torch compute with one thread: for a row of logits, waiting for a second one costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


MASK64 = (1 << 64) - 1
GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _mix(x: int) -> int:
    x = (x + GOLDEN) & MASK64
    x = ((x ^ (x >> 30)) * MIX1) & MASK64
    x = ((x ^ (x >> 27)) * MIX2) & MASK64
    return x ^ (x >> 31)


def _likeliest(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    if logits.device.type == "cpu":
        return logits.numpy().argmax(-1).tolist()  # many times as fast as torch's
    return logits.argmax(-1).tolist()


def _draw_from_all(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    # The inverse of each row's distribution function at its random number.
    return _place(_all(logits, rows), [uniform(row.seed, row.place) for row in rows])[:, 0].tolist()


def _draw_from_few(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    # A race of exponential waiting times, which the weights speed up. Every token has a random number of its own, so
    # that two models that nearly agree, a draft and the one that it writes for, nearly always draw the same token.
    weights, ids = _few(logits, rows)
    times = _waiting_times(ids, rows) / weights[:, : ids.shape[1]].double()  # (rows, k)
    return ids.gather(1, times.argmin(-1, keepdim=True))[:, 0].tolist()


def _waiting_times(ids: Tensor, rows: Sequence[Row]) -> Tensor:
    # For each token id (rows, k) a number from the exponential distribution, by the row's seed and place.
    keys = np.array([[_mix(_mix(row.seed & MASK64) + row.place)] for row in rows], dtype=np.uint64)
    x = keys + (ids.cpu().numpy().astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(MIX1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(MIX2)
    x ^= x >> np.uint64(31)
    return torch.from_numpy(-np.log(((x >> np.uint64(11)) + 0.5) * 2.0**-53)).to(ids.device)


def _all(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    # The filtered weights of the whole vocabulary.
    weights = _weights(logits, rows)
    _filter(weights, rows)
    return weights


def _few(logits: Tensor, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    # The filtered weights of the top_k likeliest tokens, likeliest first, and the tokens' ids (rows, k). All rows
    # have the same top_k: where sums are taken of other numbers of tokens, they are rounded in other places.
    values, ids = logits.topk(min(rows[0].params.top_k, logits.shape[-1]))
    weights = _weights(values, rows)
    _filter(weights, rows)
    return weights, ids


def _weights(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    # (rows, n) logits -> (rows, whole blocks) weights at the rows' temperatures, with zeros after the last one.
    count, width = logits.shape
    weights = logits.new_empty(count, -(-width // BLOCK) * BLOCK)
    weights[:, width:] = 0
    own = weights[:, :width]
    torch.sub(logits, logits.amax(-1, keepdim=True), out=own)
    if any(row.params.temperature != 1 for row in rows):
        own /= _column(weights, [max(row.params.temperature, COLDEST) for row in rows])
    own.exp_()
    return weights


def _filter(weights: Tensor, rows: Sequence[Row]) -> None:
    # Top-p, min-p and typical in place, each on what the one before has left.
    least = [row.params.min_p for row in rows]  # weights are relative to the likeliest token's
    nucleus = [i for i, row in enumerate(rows) if row.params.top_p < 1]
    if nucleus:
        ascending = _ascending(weights if len(nucleus) == len(rows) else weights[nucleus])
        edge = _place(ascending, [1 - rows[i].params.top_p for i in nucleus])  # what lies below may go
        for i, weight in zip(nucleus, ascending.gather(1, edge)[:, 0].tolist(), strict=True):
            least[i] = max(least[i], weight)
    for i, weight in enumerate(least):
        if weight > 0:
            below = float(np.nextafter(np.float32(weight), np.float32(0)))
            torch.threshold_(weights[i], below, 0.0)  # whatever is not above it; faster than a mask
    typical = [i for i, row in enumerate(rows) if row.params.typical_p < 1]
    if typical:
        weights[typical] = _typical(weights[typical], [rows[i].params.typical_p for i in typical])


def _typical(weights: Tensor, shares: Sequence[float]) -> Tensor:
    # Only the tokens whose surprise is nearest to the distribution's entropy, down to each row's share.
    probabilities = weights / weights.sum(-1, keepdim=True)
    surprise = -probabilities.log()
    entropy = (probabilities * surprise).nan_to_num(0).sum(-1, keepdim=True)
    distance = (surprise - entropy).abs()  # infinite for what was left out before
    order = _ascending_order(distance)
    farthest = distance.gather(1, order.gather(1, _place(weights.gather(1, order), shares)))
    return weights.masked_fill(distance > farthest, 0.0)


def _place(weights: Tensor, shares: Sequence[float]) -> Tensor:
    # Where in each row the running sum first exceeds this share of the whole: (rows, 1), never at a weight of 0.
    blocks = weights.unflatten(1, (-1, BLOCK))
    sums = blocks.sum(-1).cumsum(-1, dtype=torch.float64)  # double, for the tail's sake
    wanted = _just_below(_column(sums, shares) * sums[:, -1:], sums[:, -1:])
    block = torch.searchsorted(sums, wanted, right=True)  # (rows, 1)
    before = F.pad(sums, (1, 0)).gather(1, block)
    inner = blocks.gather(1, block[..., None].expand(-1, 1, BLOCK))[:, 0].cumsum(-1, dtype=torch.float64)
    within = torch.searchsorted(inner, _just_below(wanted - before, inner[:, -1:]), right=True)
    return block * BLOCK + within


def _just_below(values: Tensor, limit: Tensor) -> Tensor:
    # Rounding must not carry a sum beyond its end, where there may be nothing but zeros.
    return torch.minimum(values, limit.nextafter(torch.zeros_like(limit)))


def _ascending(weights: Tensor) -> Tensor:
    if weights.device.type == "cpu":
        return torch.from_numpy(np.sort(weights.numpy(), axis=-1))  # twenty times as fast as torch's
    return weights.sort(dim=-1).values


def _ascending_order(values: Tensor) -> Tensor:
    if values.device.type == "cpu":
        return torch.from_numpy(np.argsort(values.numpy(), axis=-1))
    return values.argsort(dim=-1)


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]  # (rows, 1)
