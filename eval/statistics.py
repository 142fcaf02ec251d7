"""Confidence intervals and significance tests over per-example observations.

Every metric is a ratio of sums over examples (correct answers per example, nats per token, bits per byte), so one
class represents them all. It keeps the observations, which paired comparisons need.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from eval import EvalError

Floats = NDArray[np.float64]

RESAMPLES = 2000
_BLOCK = 2_000_000  # resampling weights in memory at a time


class ScoreJson(TypedDict):
    """A score in `eval.json`."""

    value: float
    n: int
    ci95: list[float]


@dataclass(frozen=True, slots=True)
class Score:
    """A value measured on `n` examples, with its 95% confidence interval."""

    value: float
    n: int
    ci95: tuple[float, float]

    def as_json(self) -> ScoreJson:
        """The score as `eval.json` stores it."""
        return {"value": self.value, "n": self.n, "ci95": list(self.ci95)}


@dataclass(frozen=True, slots=True)
class Difference:
    """One score minus another on the same examples: value, 95% interval, two-sided p-value."""

    value: float
    ci95: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's per-example observations; its value is sum(numerators) / sum(denominators).

    A denominator of 0 marks an example without an observation; it is ignored. With `exponentiate` the value is
    exp(ratio), as for perplexity from nats per token. With `proportion` every observation is 0 or 1 over 1, the
    interval is Wilson's and the test McNemar's. Otherwise both come from a bootstrap over whole examples, because the
    tokens of one example are not independent.
    """

    numerators: Floats
    denominators: Floats
    exponentiate: bool = False
    proportion: bool = False
    share: bool = False  # in [0, 1], displayed in percent
    higher_is_better: bool = True

    @classmethod
    def of_matches(cls, matches: Sequence[float]) -> "Metric":
        """The share of correct examples, from a 0.0 or 1.0 for each."""
        return cls(np.asarray(matches, float), np.ones(len(matches)), proportion=True, share=True)

    @classmethod
    def of_means(cls, values: Sequence[float], *, share: bool = False) -> "Metric":
        """The mean over examples, from a number for each; `share`: all are in [0, 1]."""
        return cls(np.asarray(values, float), np.ones(len(values)), share=share)

    @property
    def n(self) -> int:
        """The number of examples with an observation."""
        return int((self.denominators > 0).sum())

    def take(self, chosen: Sequence[int] | NDArray[np.bool_]) -> "Metric":
        """The metric on a subset of the examples, given by indices or a mask."""
        chosen = np.asarray(chosen)
        return replace(self, numerators=self.numerators[chosen], denominators=self.denominators[chosen])

    def score(self, *, seed: int = 0) -> Score:
        """The value with its interval; `seed` draws the bootstrap samples.

        Raises EvalError without any observation, or when an observation is not finite.
        """
        observed = self.take(self.denominators > 0)
        value = observed._value()
        if self.proportion:
            return Score(value, self.n, wilson(float(observed.numerators.sum()), self.n))
        resampled = np.concatenate([observed._ratio(weights) for weights in _resamples(self.n, seed)])
        return Score(value, self.n, _interval(resampled))

    def minus(self, other: "Metric", *, seed: int = 0) -> Difference:
        """The value minus another metric's, on the examples that both observed.

        Raises EvalError when the two have different examples, or share no observation.
        """
        if len(self.numerators) != len(other.numerators):
            raise EvalError(
                f"A paired comparison needs the same examples on both sides, but there are "
                f"{len(self.numerators)} and {len(other.numerators)}."
            )
        shared = self._shared(other)
        ours, theirs = self.take(shared), other.take(shared)
        value = ours._value() - theirs._value()
        resampled = np.concatenate(
            [ours._ratio(weights) - theirs._ratio(weights) for weights in _resamples(ours.n, seed)]
        )
        if self.proportion:
            won = int((ours.numerators > theirs.numerators).sum())
            lost = int((ours.numerators < theirs.numerators).sum())
            p = mcnemar(won, lost)
        else:
            tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
            p = min(1.0, 2 * (tail + 1) / (len(resampled) + 1))
        return Difference(value, _interval(resampled), p)

    def shared_with(self, other: "Metric") -> int:
        """The number of examples that both metrics observed."""
        return int(self._shared(other).sum())

    def _shared(self, other: "Metric") -> NDArray[np.bool_]:
        return (self.denominators > 0) & (other.denominators > 0)

    def _value(self) -> float:
        if self.n == 0:
            raise EvalError("No example was measured, so there is no score; is the test split empty?")
        value = float(self._ratio(np.ones((1, self.n)))[0])
        if not math.isfinite(value):
            raise EvalError(
                f"A score came out as {value}: the model's outputs are not finite numbers, "
                "so the checkpoint's training has probably diverged; take an earlier checkpoint."
            )
        return value

    def _ratio(self, weights: Floats) -> Floats:
        """The metric for each row of example weights (rows, n)."""
        ratio = (weights @ self.numerators) / (weights @ self.denominators)
        return np.exp(ratio) if self.exponentiate else ratio


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion (Wilson 1927); valid at 0, at n and for small n."""
    interval = binomtest(int(successes), n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(won: int, lost: int) -> float:
    """p-value of McNemar's exact two-sided test (McNemar 1947).

    `won` and `lost` count the examples that only the one model, or only the other, answered correctly.
    """
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple testing (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _resamples(n: int, seed: int) -> Iterator[Floats]:
    """RESAMPLES bootstrap samples of n examples, as weights (rows, n), in blocks that fit into memory."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // n)
    shares = np.full(n, 1 / n)
    for start in range(0, RESAMPLES, rows):
        yield rng.multinomial(n, shares, size=min(rows, RESAMPLES - start)).astype(float)


def _interval(resampled: Floats) -> tuple[float, float]:
    """The percentile interval of resampled values (Efron 1979)."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(low), float(high)
