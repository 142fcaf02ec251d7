"""Confidence intervals, paired tests and detectable differences, from per-item observations.

Every metric is a ratio of sums over items (correct answers per item, nats per token, bits per byte), so one class
represents them all. It keeps the observations, which paired comparisons need. Items that share a cluster (a document, a
conversation, one question sampled several times) are not independent: clusters are resampled and tested as wholes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, permutation_test, t

from eval import EvalError
from eval.tasks.base import MetricSpec, Record

Floats = NDArray[np.float64]

RESAMPLES = 2000
POWER, LEVEL = 0.8, 0.05  # of the minimum detectable effect: two-sided test at LEVEL
_BLOCK = 2_000_000  # indices in memory at a time
_SIGN_FLIPS = 9999


class ScoreJson(TypedDict):
    """A score in `eval.json`."""

    value: float
    n: int
    ci95: list[float]


@dataclass(frozen=True, slots=True)
class Score:
    """A value measured on `n` items, with its 95% confidence interval."""

    value: float
    n: int
    ci95: tuple[float, float]

    def as_json(self) -> ScoreJson:
        """The score as `eval.json` stores it."""
        return {"value": self.value, "n": self.n, "ci95": list(self.ci95)}


@dataclass(frozen=True, slots=True)
class Difference:
    """One score minus another on the same `n` items: value, 95% interval, two-sided p-value.

    `detectable` is the minimum detectable effect: the true difference that a test at the 5% level finds with 80% power
    on these items; None when `n` is too small for any.
    """

    value: float
    ci95: tuple[float, float]
    p: float
    n: int
    detectable: float | None

    def as_json(self) -> dict[str, object]:
        """The difference as `eval.json` stores it."""
        return {
            "difference": self.value,
            "ci95": list(self.ci95),
            "p": self.p,
            "n": self.n,
            "minimum_detectable_effect": self.detectable,
        }


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's observations by item; its value is sum(numerators) / sum(denominators), or exp of it.

    Arrays and tuples have one entry per observed item; an item without a cluster is one by itself.
    """

    spec: MetricSpec
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    numerators: Floats
    denominators: Floats

    @classmethod
    def of_records(cls, spec: MetricSpec, name: str, records: Sequence[Record]) -> "Metric":
        """The metric `name` of a task's records."""
        observed = [record for record in records if record.observations.get(name, (0.0, 0.0))[1] > 0]
        return cls(
            spec,
            tuple(record.item for record in observed),
            tuple(record.item if record.cluster is None else f"cluster {record.cluster}" for record in observed),
            np.array([record.observations[name][0] for record in observed], float),
            np.array([record.observations[name][1] for record in observed], float),
        )

    @classmethod
    def of_ratios(
        cls,
        numerators: Sequence[float] | Floats,
        denominators: Sequence[float] | Floats | None = None,
        spec: MetricSpec | None = None,
        clusters: Sequence[str] | None = None,
    ) -> "Metric":
        """A metric over numbered items; denominators default to 1, `spec` to a mean."""
        denominators = np.ones(len(numerators)) if denominators is None else np.asarray(denominators, float)
        numerators, items = np.asarray(numerators, float), tuple(str(index) for index in range(len(numerators)))
        groups = items if clusters is None else tuple(clusters)
        chosen = np.flatnonzero(denominators > 0)
        whole = cls(spec or MetricSpec("mean"), items, groups, numerators, denominators)
        return whole._take(chosen)

    @property
    def n(self) -> int:
        """The number of items with an observation."""
        return len(self.items)

    @property
    def clustered(self) -> bool:
        """Whether any two items share a cluster."""
        return len(set(self.clusters)) < self.n

    def score(self, *, seed: int = 0) -> Score:
        """The value with its interval; `seed` draws the bootstrap samples.

        A proportion's interval is Wilson's, at the effective number of items when there are clusters; any other's is
        from a bootstrap over clusters. Raises EvalError without any observation, or when one is not finite.
        """
        value = self.value()
        if self.spec.kind == "proportion":
            effective = self._effective_n(self.numerators - value, value * (1 - value)) if self.clustered else self.n
            return Score(value, self.n, wilson(value * effective, effective))
        return Score(value, self.n, _interval(self._resampled(seed)))

    def minus(self, other: "Metric", *, seed: int = 0) -> Difference:
        """The value minus another metric's, on the items that both observed.

        The p-value of proportions is McNemar's; with clusters, that of a test that flips the sign of whole clusters,
        which is McNemar's where each has one item. Any other's is from the bootstrap, which is too sure of a few
        items, so it is at least that of a sign test on as many. Raises EvalError when the two share no item.
        """
        ours, theirs = self._paired(other)
        value = ours.value() - theirs.value()
        resampled = ours._resampled(seed) - theirs._resampled(seed)
        if self.spec.kind == "proportion":
            p = ours.p_value(theirs, seed=seed)
            wins = ours.numerators - theirs.numerators
            discordant = float((wins != 0).mean())
            effective = ours._effective_n(wins - value, discordant - value**2) if ours.clustered else float(ours.n)
            detectable = detectable_difference(effective, discordant)
        else:
            tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
            surest = 2.0 ** (1 - len(set(ours.clusters)))  # a sign test in which all of them agree
            p = min(1.0, max(2 * (tail + 1) / (len(resampled) + 1), surest))
            detectable = float(resampled.std() * (norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER))) if ours.n > 1 else None
        return Difference(value, _interval(resampled), p, ours.n, detectable)

    def p_value(self, other: "Metric", *, seed: int = 0) -> float:
        """The two-sided p-value of the difference of two proportions on the items that both observed."""
        ours, theirs = self._paired(other)
        wins = ours.numerators - theirs.numerators
        if ours.clustered:
            return sign_flips(ours._by_cluster(wins), seed=seed)
        return mcnemar(int((wins > 0).sum()), int((wins < 0).sum()))

    def shared_with(self, other: "Metric") -> int:
        """The number of items that both metrics observed."""
        return len(set(self.items) & set(other.items))

    def _paired(self, other: "Metric") -> tuple["Metric", "Metric"]:
        """Both metrics on the items that both observed, in the order of ours."""
        places = {item: place for place, item in enumerate(other.items)}
        shared = [(place, places[item]) for place, item in enumerate(self.items) if item in places]
        if not shared:
            raise EvalError("A paired comparison needs items that both sides have, and there are none.")
        return self._take([ours for ours, _ in shared]), other._take([theirs for _, theirs in shared])

    def _take(self, chosen: Sequence[int] | NDArray[np.intp]) -> "Metric":
        chosen = np.asarray(chosen, int)
        return Metric(
            self.spec,
            tuple(self.items[index] for index in chosen),
            tuple(self.clusters[index] for index in chosen),
            self.numerators[chosen],
            self.denominators[chosen],
        )

    def value(self) -> float:
        """The value without its interval. Raises EvalError as `score` does."""
        if self.n == 0:
            raise EvalError("No example was measured, so there is no score; is the test split empty?")
        ratio = self.numerators.sum() / self.denominators.sum()
        value = float(np.exp(ratio) if self.spec.kind == "perplexity" else ratio)
        if not math.isfinite(value):
            raise EvalError(
                f"A score came out as {value}: the model's outputs are not finite numbers, "
                "so the checkpoint's training has probably diverged; take an earlier checkpoint."
            )
        return value

    def _by_cluster(self, values: Floats) -> Floats:
        """The sums of values over each cluster, in the order of the clusters' first items."""
        places = {name: place for place, name in enumerate(dict.fromkeys(self.clusters))}
        return np.bincount([places[name] for name in self.clusters], weights=values).astype(float)

    def _resampled(self, seed: int) -> Floats:
        """The metric on bootstrap samples of whole clusters; the same samples for metrics with the same clusters."""
        numerators, denominators = self._by_cluster(self.numerators), self._by_cluster(self.denominators)
        ratios = np.concatenate(
            [
                numerators[drawn].sum(axis=1) / denominators[drawn].sum(axis=1)
                for drawn in _resamples(len(numerators), seed)
            ]
        )
        return np.exp(ratios) if self.spec.kind == "perplexity" else ratios

    def _effective_n(self, residuals: Floats, variance: float) -> float:
        """The number of independent items that would estimate a mean as well as these clustered ones do.

        `residuals` are the items' deviations from the mean, `variance` what it is per item without clusters. As in Korn
        and Graubard 1998: n over the design effect, scaled by the quantiles of t for the number of clusters.
        """
        clusters = len(set(self.clusters))
        if clusters < 2 or variance <= 0:
            return float(clusters)
        sums = self._by_cluster(residuals)
        clustered = float((sums**2).sum()) * clusters / (clusters - 1) / self.n**2
        few = float((t.ppf(0.975, self.n - 1) / t.ppf(0.975, clusters - 1)) ** 2)
        return min(float(self.n), few * variance / clustered) if clustered else float(self.n)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion (Wilson 1927); valid at 0, at n and for small n.

    `n` need not be whole: with clusters it is the effective number of items.
    """
    if float(n).is_integer() and float(successes).is_integer():
        interval = binomtest(int(successes), int(n)).proportion_ci(confidence_level=0.95, method="wilson")
        return float(interval.low), float(interval.high)
    z, share = float(norm.ppf(0.975)), successes / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def mcnemar(won: int, lost: int) -> float:
    """p-value of McNemar's exact two-sided test (McNemar 1947).

    `won` and `lost` count the items that only the one model, or only the other, answered correctly.
    """
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def sign_flips(differences: Floats, *, seed: int = 0) -> float:
    """Two-sided p-value of paired differences of clusters: under the null, each has either sign equally often.

    Exact for few clusters, else from 9,999 random flips (Fisher 1935, Dwass 1957).
    """
    moved = differences[differences != 0]
    if len(moved) == 0:
        return 1.0
    if len(moved) == 1:
        return 1.0
    result = permutation_test(
        (moved,),
        lambda values, axis: np.sum(values, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_SIGN_FLIPS,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def detectable_difference(n: float, discordant: float) -> float | None:
    """The difference of two paired proportions that McNemar's test finds with 80% power (Connor 1987).

    `discordant` is the share of the `n` pairs in which exactly one side is right. Half a pair is added to each cell
    (Agresti and Min 2005), so that a sample without any discordant pair does not promise to see everything. None when
    even a difference of 1 would be missed.
    """
    level, power = float(norm.ppf(1 - LEVEL / 2)), float(norm.ppf(POWER))
    smoothed = (discordant * n + 1) / (n + 2)

    def excess(difference: float) -> float:
        share = max(smoothed, difference)
        needed = level * math.sqrt(share) + power * math.sqrt(max(0.0, share - difference**2))
        return difference * math.sqrt(n) - needed

    return cast("float", brentq(excess, 0.0, 1.0)) if n > 0 and excess(1.0) > 0 else None


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for multiple testing (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _resamples(n: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """RESAMPLES bootstrap samples of n clusters, as indices (rows, n), in blocks that fit into memory."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // n)
    for start in range(0, RESAMPLES, rows):
        yield rng.integers(n, size=(min(rows, RESAMPLES - start), n))


def _interval(resampled: Floats) -> tuple[float, float]:
    """The percentile interval of resampled values (Efron 1979)."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(low), float(high)
