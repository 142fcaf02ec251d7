"""Scores, their intervals and their differences."""

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import EvalError
from eval.statistics import LEVEL, POWER, Metric, detectable_difference, holm, mcnemar, sign_flips, wilson
from eval.tasks.base import MetricSpec, Record

MATCHES = MetricSpec("proportion", share=True)
PERPLEXITY = MetricSpec("perplexity", higher_is_better=False)


def test_the_wilson_interval_is_the_published_one() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


@given(st.integers(1, 500), st.data())
def test_the_wilson_interval_holds_the_share_and_stays_within_0_and_1(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(10, 0) == mcnemar(0, 10) == pytest.approx(2 / 2**10)
    assert mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar(3000, 0) == 0.0  # beyond the smallest float, and no overflow on the way


def test_holm_multiplies_the_smallest_p_most_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_mean_has_an_interval_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 400)
    score = Metric.of_ratios(list(values)).score()
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert score.value == pytest.approx(values.mean())
    assert score.ci95 == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert score.n == 400


def test_perplexity_weighs_tokens_not_examples() -> None:
    metric = Metric.of_ratios([1.0, 30.0], [1.0, 10.0], PERPLEXITY)
    assert metric.score().value == pytest.approx(math.exp(31 / 11))


def test_the_same_seed_gives_the_same_interval() -> None:
    metric = Metric.of_ratios(list(np.random.default_rng(2).normal(size=50)))
    assert metric.score(seed=3) == metric.score(seed=3)
    assert metric.score(seed=3).ci95 != metric.score(seed=4).ci95


def test_an_unobserved_example_counts_nowhere() -> None:
    seen = Metric.of_ratios([2.0, 0.0, 6.0], [1.0, 0.0, 2.0])
    other = Metric.of_ratios([1.0, 5.0, 0.0], [1.0, 1.0, 0.0])
    assert (seen.n, seen.score().value) == (2, pytest.approx(8 / 3))
    assert seen.minus(other).value == pytest.approx(1.0)  # only the first example was observed by both


def test_a_paired_difference_sees_what_two_intervals_hide() -> None:
    hard = np.random.default_rng(1).normal(0, 10, 200)
    better, worse = Metric.of_ratios(list(hard + 0.5)), Metric.of_ratios(list(hard))
    difference = better.minus(worse)
    assert better.score().ci95[0] < worse.score().ci95[1]  # the intervals overlap
    assert difference.value == pytest.approx(0.5)
    assert difference.ci95[0] > 0
    assert difference.p < 0.01


@pytest.mark.parametrize(("n", "p"), [(1, 1.0), (2, 0.5), (5, 0.0625), (20, 0.001)])
def test_a_few_items_are_no_proof_of_a_difference(n: int, p: float) -> None:
    grades = [50.0 + place for place in range(n)]
    difference = Metric.of_ratios(grades).minus(Metric.of_ratios([grade - 10 for grade in grades]))
    assert difference.p == pytest.approx(p, rel=0.01)  # the bootstrap alone says .001 for each


def test_equal_answers_differ_by_nothing() -> None:
    matches = Metric.of_ratios([1.0, 0.0, 1.0], spec=MATCHES)
    difference = matches.minus(matches)
    assert (difference.value, difference.p, difference.ci95) == (0.0, 1.0, (0.0, 0.0))


def test_items_are_paired_by_id_and_others_are_left_out() -> None:
    def metric(scores: dict[str, float]) -> Metric:
        records = [Record(item, {"m": (score, 1.0)}) for item, score in scores.items()]
        return Metric.of_records(MetricSpec("mean"), "m", records)

    difference = metric({"a": 1, "b": 5, "c": 3}).minus(metric({"c": 1, "d": 9, "a": 0}))
    assert (difference.value, difference.n) == (1.5, 2)
    with pytest.raises(EvalError, match="needs items that both sides have"):
        metric({"a": 1}).minus(metric({"b": 1}))


def test_no_observation_is_an_error_and_not_a_number() -> None:
    with pytest.raises(EvalError, match="No example was measured"):
        Metric.of_ratios([], spec=MATCHES).score()


def test_a_diverged_model_gets_a_sentence_and_not_a_nan() -> None:
    with pytest.raises(EvalError, match="diverged"):
        Metric.of_ratios([1.0, math.nan]).score()


def simulated(rng: np.random.Generator, n: int, lead: float, discordant: float) -> tuple[Metric, Metric]:
    """Two models that differ on so many of n items, the first one right on more of them by `lead`."""
    shares = [(discordant + lead) / 2, (discordant - lead) / 2, (1 - discordant) / 2, (1 - discordant) / 2]
    ours, theirs = np.array([(1, 0), (0, 1), (1, 1), (0, 0)])[rng.choice(4, n, p=shares)].T
    return Metric.of_ratios([*map(float, ours)], spec=MATCHES), Metric.of_ratios([*map(float, theirs)], spec=MATCHES)


def test_a_lead_of_5_points_is_found_with_the_stated_power_and_none_between_two_seeds() -> None:
    """Two models differ on 20% of the items; 660 items are said to show 5 points in 80% of all evaluations."""
    rng, discordant, n, tries = np.random.default_rng(0), 0.2, 660, 300
    assert detectable_difference(n, discordant) == pytest.approx(0.05, abs=0.002)

    def found(lead: float) -> float:
        pairs = (simulated(rng, n, lead, discordant) for _ in range(tries))
        return float(np.mean([ours.p_value(theirs) < LEVEL for ours, theirs in pairs]))

    assert found(0.05) == pytest.approx(POWER, abs=0.07)  # 3 standard errors of so many tries
    assert found(0.0) <= LEVEL + 0.03


def test_few_items_detect_only_large_differences_and_too_few_none() -> None:
    assert detectable_difference(8, 0.0) == pytest.approx(0.72, abs=0.02)
    assert detectable_difference(3, 0.0) is None
    assert detectable_difference(10_000, 0.1) == pytest.approx(2.8 * math.sqrt(0.1 / 10_000), rel=0.01)


def test_the_difference_of_means_that_is_found_is_the_power_of_a_z_test() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = Metric.of_ratios(rng.normal(size=500)), Metric.of_ratios(rng.normal(size=500))
    expected = (1.96 + 0.8416) * math.sqrt(2 / 500)
    assert ours.minus(theirs).detectable == pytest.approx(expected, rel=0.1)


def clustered(rng: np.random.Generator, clusters: int, size: int) -> tuple[list[float], list[str]]:
    """Matches of which all of a cluster are the same: as much information as one item a cluster."""
    shared = rng.integers(0, 2, clusters)
    return [float(value) for value in shared for _ in range(size)], [
        str(c) for c in range(clusters) for _ in range(size)
    ]


def test_copies_of_an_item_do_not_make_the_interval_narrower() -> None:
    values, names = clustered(np.random.default_rng(0), 60, 5)
    whole = Metric.of_ratios(values, spec=MATCHES, clusters=names).score()
    single = Metric.of_ratios(values[::5], spec=MATCHES).score()
    blind = Metric.of_ratios(values, spec=MATCHES).score()
    width = whole.ci95[1] - whole.ci95[0]
    assert (whole.n, whole.value) == (300, single.value)
    assert width == pytest.approx(single.ci95[1] - single.ci95[0], rel=0.05)
    assert width > 2 * (blind.ci95[1] - blind.ci95[0])


@pytest.mark.parametrize("kind", ["mean", "ratio", "perplexity"])
def test_clusters_are_resampled_as_wholes(kind: Literal["mean", "ratio", "perplexity"]) -> None:
    values, names = clustered(np.random.default_rng(1), 80, 4)
    spec = MetricSpec(kind)
    whole = Metric.of_ratios(values, spec=spec, clusters=names).score().ci95
    single = Metric.of_ratios(values[::4], spec=spec).score().ci95
    assert whole == pytest.approx(single, abs=0.02)


def test_intervals_of_clustered_shares_cover_the_truth() -> None:
    rng, covered = np.random.default_rng(2), 0
    for _ in range(300):
        chance = rng.beta(2, 2, 30)  # each document has its own difficulty; 0.5 on the whole
        values = [*map(float, (rng.random((30, 6)) < chance[:, None]).ravel())]
        names = [str(document) for document in range(30) for _ in range(6)]
        low, high = Metric.of_ratios(values, spec=MATCHES, clusters=names).score().ci95
        covered += low <= 0.5 <= high
    assert covered / 300 == pytest.approx(0.95, abs=0.03)


def test_a_clustered_comparison_keeps_its_level_where_mcnemar_would_not() -> None:
    rng, false, blind = np.random.default_rng(3), 0, 0
    for _ in range(100):
        wins = np.repeat(rng.choice([-1.0, 0.0, 1.0], 40), 5)
        names = [str(cluster) for cluster in range(40) for _ in range(5)]
        ours, theirs = [*map(float, wins > 0)], [*map(float, wins < 0)]
        pair = [Metric.of_ratios(side, spec=MATCHES, clusters=names) for side in (ours, theirs)]
        false += pair[0].p_value(pair[1]) < 0.05
        blind += mcnemar(int(sum(ours)), int(sum(theirs))) < 0.05
    assert false / 100 < 0.12
    assert blind / 100 > 0.25


def test_flips_of_single_items_are_mcnemars_test() -> None:
    assert sign_flips(np.array([1.0] * 8 + [-1.0] * 2)) == pytest.approx(mcnemar(8, 2))
    assert sign_flips(np.zeros(5)) == 1.0
    assert sign_flips(np.array([3.0])) == 1.0


def test_the_wilson_interval_of_a_fraction_of_an_item_lies_between_its_neighbours() -> None:
    low, high = wilson(5.25, 10.5)
    assert wilson(5, 10)[0] < low < wilson(5.5, 11.0)[0] + 1e-9
    assert high < wilson(5, 10)[1]
