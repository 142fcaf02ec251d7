"""Learning-rate schedules, configured by `configs/scheduler/`: a factor of the optimiser's rate per step."""

import math
from bisect import bisect_right
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


def wsd(optimizer: Optimizer, total_steps: int, *, warmup_steps: int, decay: float, final: float) -> LambdaLR:
    """Linear warm-up, a stable rate, then decay to `final` times the rate over the last share `decay` of the steps.

    The decay follows 1 - sqrt, which Hägele et al. 2024 ("Scaling laws and compute-optimal training beyond fixed
    training durations") found the best; Hu et al. 2024 ("MiniCPM") named the schedule.
    """
    decay_steps = min(max(1, round(decay * total_steps)), max(1, total_steps - warmup_steps))

    def factor(step: int) -> float:
        progress = (step - (total_steps - decay_steps)) / decay_steps
        return 1 - (1 - final) * math.sqrt(min(1.0, max(0.0, progress)))

    return _with_warmup(optimizer, warmup_steps, factor)


def cosine_restarts(
    optimizer: Optimizer, total_steps: int, *, warmup_steps: int, cycles: int, growth: float, final: float
) -> LambdaLR:
    """Linear warm-up, then `cycles` cosine decays to `final` times the rate, each `growth` times as long as the last.

    The last cycle ends with the run. Source: Loshchilov and Hutter 2017, "SGDR: Stochastic gradient descent with warm
    restarts".
    """
    lengths = [growth**cycle for cycle in range(cycles)]
    starts = [sum(lengths[:cycle]) / sum(lengths) for cycle in range(cycles)]  # as shares of the steps after warm-up
    ends = [*starts[1:], 1.0]

    def factor(step: int) -> float:
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        cycle = bisect_right(starts, progress) - 1
        within = (progress - starts[cycle]) / (ends[cycle] - starts[cycle])
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * within))

    return _with_warmup(optimizer, warmup_steps, factor)


def _with_warmup(optimizer: Optimizer, warmup_steps: int, factor: Callable[[int], float]) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: (step + 1) / warmup_steps if step < warmup_steps else factor(step))
