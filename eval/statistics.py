"""From per-example observations to a score with its uncertainty, and to the difference of two scores.

Every measure here is a ratio of sums over examples (right answers per example, nats per token, bits per
byte), so one class holds them all; keeping the observations is what makes paired comparisons possible.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from eval.errors import EvalError

Floats = NDArray[np.float64]

RESAMPLES = 2000
_Z95 = 1.959963984540054  # two-sided 95% quantile of the standard normal
_BLOCK = 2_000_000  # resampling weights held in memory at a time


class ScoreJson(TypedDict):
    """A score as it stands in `eval.json`."""

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
        """The form of `eval.json`."""
        return {"value": self.value, "n": self.n, "ci95": list(self.ci95)}


@dataclass(frozen=True, slots=True)
class Difference:
    """One score minus another on the same examples: value, 95% interval, two-sided p-value."""

    value: float
    ci95: tuple[float, float]
    p: float


@dataclass(frozen=True, slots=True)
class Measure:
    """Observations of one measure: sum(numerators) / sum(denominators), one of each per example.

    A denominator of 0 says that the example could not be observed: it counts nowhere.
    `exponentiate` makes it exp(ratio), as perplexity is of nats per token. `proportion` says that every
    observation is 0 or 1 over 1: then the interval is Wilson's and the test McNemar's; else both come from
    resampling whole examples, because the tokens of one example are not independent of each other.
    """

    numerators: Floats
    denominators: Floats
    exponentiate: bool = False
    proportion: bool = False
    share: bool = False  # in [0, 1], shown in percent
    higher_is_better: bool = True

    @classmethod
    def of_matches(cls, matches: Sequence[float]) -> "Measure":
        """The share of examples that are right, from a 0.0 or 1.0 for each."""
        return cls(np.asarray(matches, float), np.ones(len(matches)), proportion=True, share=True)

    @classmethod
    def of_means(cls, values: Sequence[float], *, share: bool = False) -> "Measure":
        """The mean over examples, from a number for each; `share` says that all are in [0, 1]."""
        return cls(np.asarray(values, float), np.ones(len(values)), share=share)

    @property
    def n(self) -> int:
        """How many examples were observed."""
        return int((self.denominators > 0).sum())

    def take(self, chosen: Sequence[int] | NDArray[np.bool_]) -> "Measure":
        """The same measure on some of the examples, by their indices or a mask."""
        chosen = np.asarray(chosen)
        return replace(self, numerators=self.numerators[chosen], denominators=self.denominators[chosen])

    def score(self, *, seed: int = 0) -> Score:
        """The value with its interval; `seed` draws the resamples.

        Raises EvalError when nothing was observed or an observation is not a finite number.
        """
        observed = self.take(self.denominators > 0)
        value = observed._value()
        if self.proportion:
            return Score(value, self.n, wilson(float(observed.numerators.sum()), self.n))
        resampled = np.concatenate([observed._ratio(weights) for weights in _resamples(self.n, seed)])
        return Score(value, self.n, _interval(resampled))

    def minus(self, other: "Measure", *, seed: int = 0) -> Difference:
        """The value of this measure less that of another, on the examples that both observed.

        Raises EvalError when the two were not put to the same examples, or share no observation.
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

    def shared_with(self, other: "Measure") -> int:
        """How many examples both measures observed."""
        return int(self._shared(other).sum())

    def _shared(self, other: "Measure") -> NDArray[np.bool_]:
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
        """The measure for each row of weights (rows, n): how often each example counts."""
        ratio = (weights @ self.numerators) / (weights @ self.denominators)
        return np.exp(ratio) if self.exponentiate else ratio


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion (Wilson 1927); sound at 0, at n and for small n."""
    share, z2 = successes / n, _Z95 * _Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided McNemar test: how likely such a split of the disagreements is by chance alone.

    `won` and `lost` count the examples that only the one, or only the other, got right (McNemar 1947, in
    the binomial form).
    """
    n, fewer = won + lost, min(won, lost)
    ways, total = 1, 0
    for k in range(fewer + 1):
        total += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, 2 * total / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for having asked several times (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _resamples(n: int, seed: int) -> Iterator[Floats]:
    """RESAMPLES draws of n examples with replacement, as weights (rows, n), in blocks that fit in memory."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // n)
    shares = np.full(n, 1 / n)
    for start in range(0, RESAMPLES, rows):
        yield rng.multinomial(n, shares, size=min(rows, RESAMPLES - start)).astype(float)


def _interval(resampled: Floats) -> tuple[float, float]:
    """The percentile interval of resampled values (Efron 1979)."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(low), float(high)
