"""How many held-out judgements a paired test needs, and which level each attempt may use."""

import math
from typing import cast

from scipy.optimize import brentq
from scipy.stats import norm

POWER = 0.8


def level(alpha: float, attempt: int) -> float:
    """The level of the `attempt`-th test (from 1): alpha / (k (k + 1)).

    The levels of all attempts add up to alpha, so that the chance that any of them promotes a checkpoint that is no
    better is at most alpha (alpha spending, Lan and DeMets 1983; the union bound needs no independence).
    """
    return alpha / (attempt * (attempt + 1))


def pairs_needed(gain: float, lost: float, level: float) -> int:
    """The pairs in which McNemar's test finds a gain with 80% power (Connor 1987).

    `gain` is the difference of the two shares of right answers, `lost` the share of answers that get worse, so that
    `gain + 2 lost` of the pairs differ. `level` is two-sided.
    """
    differing = min(1.0, gain + 2 * lost)
    spread = float(norm.ppf(1 - level / 2)) * math.sqrt(differing)
    spread += float(norm.ppf(POWER)) * math.sqrt(max(0.0, differing - gain**2))
    return math.ceil((spread / gain) ** 2)


def detectable(pairs: int, lost: float, level: float) -> float | None:
    """The gain that so many pairs find with 80% power; None when even a gain of all of them would be missed."""

    def missing(gain: float) -> float:
        return pairs_needed(gain, lost, level) - pairs

    if pairs < 1 or missing(1 - lost) > 0:
        return None
    return cast("float", brentq(missing, 1e-3, 1 - lost, xtol=1e-3)) if missing(1e-3) > 0 else 1e-3
