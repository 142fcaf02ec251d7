"""Learning-rate schedules, configured by `configs/scheduler/`: a factor of the optimiser's rate per step."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine(optimizer: Optimizer, total_steps: int, *, warmup_steps: int, final: float) -> LambdaLR:
    """Linear warm-up for `warmup_steps`, then cosine decay to `final` times the rate."""

    def factor(step: int) -> float:
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return _with_warmup(optimizer, warmup_steps, factor)


def linear(optimizer: Optimizer, total_steps: int, *, warmup_steps: int, final: float) -> LambdaLR:
    """Linear warm-up for `warmup_steps`, then linear decay to `final` times the rate."""

    def factor(step: int) -> float:
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 1 - (1 - final) * min(1.0, progress)

    return _with_warmup(optimizer, warmup_steps, factor)


def constant(optimizer: Optimizer, total_steps: int, *, warmup_steps: int) -> LambdaLR:
    """Linear warm-up for `warmup_steps`, then constant."""
    return _with_warmup(optimizer, warmup_steps, lambda _: 1.0)


def _with_warmup(optimizer: Optimizer, warmup_steps: int, factor: Callable[[int], float]) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: (step + 1) / warmup_steps if step < warmup_steps else factor(step))
