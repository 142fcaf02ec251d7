"""A softmax over the tokens of the data and a sample of the others, instead of the whole vocabulary."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from resonance.pinned_memory import to_device


@dataclass(frozen=True, slots=True)
class Candidates:
    """The tokens of one step's softmax, instead of the whole vocabulary.

    token_ids: (K,) int64. log_weights: (K,) float32, the log of the number of tokens that each represents. indices:
    (V,) int64, each token's index among the candidates; -1 for others. new: how many are rows that an adapter adds to
    the head, if that is known.
    """

    token_ids: Tensor
    log_weights: Tensor
    indices: Tensor
    new: int | None = None


class SampledSoftmax:
    """Samples candidates: all tokens of the data, and some of the others, which represent the rest.

    The head is most of a small model's compute, and most of GPT-2's vocabulary does not occur in small data. The
    weighted sum of exponentials over the sampled tokens is an unbiased estimate of the whole sum (Jean et al. 2015, "On
    using very large target vocabulary for neural machine translation").
    """

    def __init__(self, used: Tensor, vocab_size: int, count: int) -> None:
        """`used` (U,) int64, all labels among them, are always candidates; each step samples `count` others."""
        self._used = used
        self._others = torch.ones(vocab_size, dtype=torch.bool).index_fill_(0, used, False).nonzero()[:, 0]
        self._count = min(count, len(self._others))
        self._indices = torch.full((vocab_size,), -1).index_copy_(0, used, torch.arange(len(used)))

    def __len__(self) -> int:
        """The number of candidates of a step."""
        return len(self._used) + self._count

    def sample(self, device: torch.device, head_rows: int) -> Candidates:
        """The candidates of a step, drawn by torch's generator; the head has `head_rows`, and an adapter's below."""
        sampled = self._others[torch.randperm(len(self._others))[: self._count]]
        log_weights = torch.zeros(len(self._used) + self._count)
        if self._count:
            log_weights[len(self._used) :] = math.log(len(self._others) / self._count)
        ids = torch.cat([self._used, sampled])
        new = int((ids >= head_rows).sum())
        self._indices = to_device(self._indices, device)
        return Candidates(to_device(ids, device), to_device(log_weights, device), self._indices, new)
