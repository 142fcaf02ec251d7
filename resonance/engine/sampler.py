"""Samples the next tokens from logits.

Everything works on a whole batch at once; row i of `logits` belongs to `rows[i]`, with its own parameters. A row's
random number depends on its seed and its position only, so that a request's tokens do not depend on the rest of the
batch, and verifying drafted tokens leaves the output unchanged (see speculative.py).

Weights are unnormalised probabilities relative to the likeliest token's; a token that a filter removed has weight 0.
No filter needs the vocabulary sorted by likelihood: top-p needs only the smallest weight that it keeps, for which the
weights alone are sorted.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resonance.engine.logits_processors import process_logits
from resonance.engine.outputs import Piece, TokenLogprob
from resonance.engine.sampling_params import SamplingMetadata
from resonance.engine.sequence import Chunk, SampledToken
from resonance.pinned_memory import tensor_on, to_device

BLOCK = 128  # weights are summed by blocks first, which saves the running sum over the whole vocabulary
MIN_TEMPERATURE = 1e-6  # below, every draw takes the likeliest token

Rows = Sequence[SamplingMetadata]


class Sampler:
    """Samples the tokens that follow a step's chunks: one each, and one more after each drafted token."""

    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        self._head = head  # (rows, n_embd) -> (rows, vocab)

    def consume(self, chunks: Sequence[Chunk], hidden: Sequence[Tensor]) -> Iterator[tuple[Chunk, list[Piece]]]:
        """See HiddenStatesConsumer. A chunk in the middle of a prompt has no token to sample."""
        rows = [
            chunk.sequence.sampling_metadata(chunk.drafted[:drafted])
            for chunk in chunks
            for drafted in range(chunk.hidden_count)
        ]
        sampled = iter(sample_with_logprobs(self._head(torch.cat(list(hidden))), rows) if rows else [])
        for chunk in chunks:
            tokens = list(islice(sampled, chunk.hidden_count))
            if chunk.sequence.finish_reason is None:  # else a logits processor cancelled it while sampling
                yield chunk, chunk.sequence.advance(chunk, tokens)


def sample_with_logprobs(logits: Tensor, rows: Rows) -> list[SampledToken]:
    """Sample one token for each row of `logits`, with log-probabilities where the row's parameters request them."""
    requested = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
    # A copy: the model's own logits, before penalties and biases.
    original = logits[tensor_on(logits.device, requested)] if requested else None
    sampled: list[SampledToken] = [(token_id, None) for token_id in sample(logits, rows)]
    if original is not None:
        token_ids = [sampled[i][0] for i in requested]
        with single_thread():
            values = logprobs(original, token_ids, max(rows[i].params.logprobs or 0 for i in requested))
        for i, token_id, (value, top) in zip(requested, token_ids, values, strict=True):
            sampled[i] = (token_id, TokenLogprob(token_id, value, top[: rows[i].params.logprobs]))
    return sampled


def sample(logits: Tensor, rows: Rows) -> list[int]:
    """Sample one token for each row of `logits` (rows, vocab) fp32, which logits processors change in place."""
    groups: dict[tuple[Callable[[Tensor, Rows], Tensor], int], list[int]] = {}
    for i, row in enumerate(rows):
        k = row.params.top_k
        method = _greedy if row.params.temperature == 0 else _sample_top_k if k else _sample_all
        groups.setdefault((method, k if method is _sample_top_k else 0), []).append(i)
    drawn: list[Tensor] = []
    with single_thread():
        process_logits(logits, rows)
        for (method, _), indices in groups.items():
            own = logits if len(indices) == len(rows) else logits[tensor_on(logits.device, indices)]
            drawn.append(method(own, [rows[i] for i in indices]))
        token_ids = torch.cat(drawn).tolist()  # the one transfer of a step from a GPU
    sampled = [0] * len(rows)
    for i, token_id in zip(chain.from_iterable(groups.values()), token_ids, strict=True):
        sampled[i] = token_id
    return sampled


def logprobs(logits: Tensor, token_ids: Sequence[int], top: int) -> list[tuple[float, tuple[tuple[int, float], ...]]]:
    """Log-probabilities under `logits` (rows, vocab): of each row's `token_ids[row]`, and of its `top` likeliest."""
    normaliser = logits.logsumexp(-1)  # (rows,)
    ids = tensor_on(logits.device, token_ids)
    values = (logits.gather(1, ids[:, None])[:, 0] - normaliser).tolist()
    if not top:
        return [(value, ()) for value in values]
    if top == 1:  # half of topk's time
        top_values, top_ids = logits.max(-1, keepdim=True)  # (rows, 1)
    else:
        top_values, top_ids = logits.topk(min(top, logits.shape[-1]))  # (rows, top)
    top_values = (top_values - normaliser[:, None]).tolist()
    return [
        (value, tuple(zip(row_ids, row_values, strict=True)))
        for value, row_ids, row_values in zip(values, top_ids.tolist(), top_values, strict=True)
    ]


def uniform(seed: int, position: int) -> float:
    """A random number in (0, 1) from a seed and a position: two rounds of SplitMix64 (Steele et al. 2014)."""
    mixed = _mix(_mix(seed & MASK64) + position)
    return ((mixed >> 11) + 0.5) * 2.0**-53


@contextmanager
def single_thread() -> Generator[None]:
    """Limit torch to one thread: a row of logits is too little work to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def filtered_weights(logits: Tensor, rows: Rows) -> Tensor:
    """The weights (rows, vocab padded to whole blocks) of all tokens after top-p, min-p and typical-p."""
    weights = _weights(logits, rows)
    _filter(weights, rows)
    return weights


def top_k_weights(logits: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """The filtered weights of the top_k likeliest tokens, likeliest first, and the tokens' ids (rows, k).

    All rows have the same top_k: sums over different numbers of tokens round differently.
    """
    values, ids = logits.topk(min(rows[0].params.top_k, logits.shape[-1]))
    return filtered_weights(values, rows), ids


MASK64 = (1 << 64) - 1
GOLDEN, MIX1, MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _mix(x: int) -> int:
    x = (x + GOLDEN) & MASK64
    x = ((x ^ (x >> 30)) * MIX1) & MASK64
    x = ((x ^ (x >> 27)) * MIX2) & MASK64
    return x ^ (x >> 31)


def _greedy(logits: Tensor, rows: Rows) -> Tensor:
    if logits.device.type == "cpu":
        return torch.from_numpy(logits.numpy().argmax(-1))  # several times faster than torch's
    return logits.argmax(-1)


def _sample_all(logits: Tensor, rows: Rows) -> Tensor:
    # Inverse transform sampling: each row's quantile function at its random number.
    shares = [uniform(row.seed, row.position) for row in rows]
    return _quantiles(filtered_weights(logits, rows), shares)[:, 0]


def _sample_top_k(logits: Tensor, rows: Rows) -> Tensor:
    # The exponential race (the Gumbel-max trick): the smallest waiting time over weight wins. Each token has its own
    # random number, so that a draft model with nearly the same distribution nearly always samples the same token.
    weights, ids = top_k_weights(logits, rows)
    times = _waiting_times(ids, rows) / weights[:, : ids.shape[1]].double()  # (rows, k)
    return ids.gather(1, times.argmin(-1, keepdim=True))[:, 0]


def _waiting_times(ids: Tensor, rows: Rows) -> Tensor:
    # (rows, k): an exponential random number for each token id, from the row's seed and position.
    keys = np.array([[_mix(_mix(row.seed & MASK64) + row.position)] for row in rows], dtype=np.uint64)
    if ids.device.type != "cpu":
        return _waiting_times_on_device(to_device(torch.from_numpy(keys.view(np.int64)), ids.device), ids)
    x = keys + (ids.numpy().astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(MIX1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(MIX2)
    x ^= x >> np.uint64(31)
    return torch.from_numpy(-np.log(((x >> np.uint64(11)) + 0.5) * 2.0**-53))


def _waiting_times_on_device(keys: Tensor, ids: Tensor) -> Tensor:
    # The same in torch, whose int64 wraps around as uint64 does, but shifts copies of the sign in.
    def shifted(x: Tensor, bits: int) -> Tensor:
        return (x >> bits) & ((1 << (64 - bits)) - 1)

    def signed(number: int) -> int:
        return number - (1 << 64 if number >> 63 else 0)

    x = keys + (ids + 1) * signed(GOLDEN)
    x = (x ^ shifted(x, 30)) * signed(MIX1)
    x = (x ^ shifted(x, 27)) * signed(MIX2)
    x = x ^ shifted(x, 31)
    return -((shifted(x, 11).double() + 0.5) * 2.0**-53).log()


def _weights(logits: Tensor, rows: Rows) -> Tensor:
    # (rows, n) logits -> (rows, n padded to whole blocks) weights at the rows' temperatures; the padding is 0.
    count, width = logits.shape
    weights = logits.new_empty(count, -(-width // BLOCK) * BLOCK)
    weights[:, width:] = 0
    unpadded = weights[:, :width]
    torch.sub(logits, logits.amax(-1, keepdim=True), out=unpadded)
    if any(row.params.temperature != 1 for row in rows):
        unpadded /= _column(weights, [max(row.params.temperature, MIN_TEMPERATURE) for row in rows])
    unpadded.exp_()
    return weights


def _filter(weights: Tensor, rows: Rows) -> None:
    # Top-p, min-p and typical-p in place, each on the tokens that the one before keeps.
    smallest = _column(weights, [row.params.min_p for row in rows])  # kept; relative to the likeliest token's
    nucleus = [i for i, row in enumerate(rows) if row.params.top_p < 1]
    if nucleus:
        at = tensor_on(weights.device, nucleus)
        ascending = _ascending(weights if len(nucleus) == len(rows) else weights[at])
        edge = _quantiles(ascending, [1 - rows[i].params.top_p for i in nucleus])  # of the nucleus
        smallest[at] = torch.maximum(smallest[at], ascending.gather(1, edge))
    if weights.device.type != "cpu":
        weights.masked_fill_(weights < smallest, 0.0)
    else:
        for i, weight in enumerate(smallest[:, 0].tolist()):
            if weight > 0:
                below = float(np.nextafter(np.float32(weight), np.float32(0)))
                torch.threshold_(weights[i], below, 0.0)  # removes weights up to `below`; faster than a mask
    typical = [i for i, row in enumerate(rows) if row.params.typical_p < 1]
    if typical:
        at = tensor_on(weights.device, typical)
        weights[at] = _typical(weights[at], [rows[i].params.typical_p for i in typical])


def _typical(weights: Tensor, shares: Sequence[float]) -> Tensor:
    # Keeps the tokens whose surprisal is nearest to the entropy, until their mass reaches each row's share.
    probabilities = weights / weights.sum(-1, keepdim=True)
    surprisal = -probabilities.log()
    entropy = (probabilities * surprisal).nan_to_num(0).sum(-1, keepdim=True)
    distance = (surprisal - entropy).abs()  # infinite for tokens that are already removed
    order = _ascending_order(distance)
    farthest = distance.gather(1, order.gather(1, _quantiles(weights.gather(1, order), shares)))
    return weights.masked_fill(distance > farthest, 0.0)


def _quantiles(weights: Tensor, shares: Sequence[float]) -> Tensor:
    # (rows, 1): where each row's running sum first exceeds this share of its total; never at a weight of 0.
    blocks = weights.unflatten(1, (-1, BLOCK))
    sums = blocks.sum(-1).cumsum(-1, dtype=torch.float64)  # double: the tail's weights are tiny
    target = _just_below(_column(sums, shares) * sums[:, -1:], sums[:, -1:])
    block = torch.searchsorted(sums, target, right=True)  # (rows, 1)
    before = F.pad(sums, (1, 0)).gather(1, block)
    inner = blocks.gather(1, block[..., None].expand(-1, 1, BLOCK))[:, 0].cumsum(-1, dtype=torch.float64)
    within = torch.searchsorted(inner, _just_below(target - before, inner[:, -1:]), right=True)
    return block * BLOCK + within


def _just_below(values: Tensor, limit: Tensor) -> Tensor:
    # Rounding must not move a target to the total or past it, where only zeros may follow.
    return torch.minimum(values, limit.nextafter(torch.zeros_like(limit)))


def _ascending(weights: Tensor) -> Tensor:
    if weights.device.type == "cpu":
        return torch.from_numpy(np.sort(weights.numpy(), axis=-1))  # twenty times faster than torch's
    return weights.sort(dim=-1).values


def _ascending_order(values: Tensor) -> Tensor:
    if values.device.type == "cpu":
        return torch.from_numpy(np.argsort(values.numpy(), axis=-1))
    return values.argsort(dim=-1)


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    return tensor_on(like.device, values, like.dtype)[:, None]  # (rows, 1)
