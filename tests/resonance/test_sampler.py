"""Distributions against plain reference code, by chi-square; randomness that depends on seed and place only."""

import math
from dataclasses import replace

import pytest
import torch

from resonance.engine import SamplingParams, sampler
from resonance.engine.logits_processors import process_logits
from resonance.engine.sampling_params import SamplingMetadata

VOCAB = 40


def logits_of(vocab: int = VOCAB, seed: int = 0) -> list[float]:
    return (torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * 2).tolist()


def row(
    params: SamplingParams, seed: int = 0, prompt: tuple[int, ...] = (1, 2), new: tuple[int, ...] = ()
) -> SamplingMetadata:
    return SamplingMetadata(params, seed, (*prompt, *new), len(prompt), frozenset())


def distribution(logits: list[float], row: SamplingMetadata) -> torch.Tensor:
    """The probabilities (vocab,) that the sampler draws from."""
    tensor = torch.tensor([logits])
    if row.params.top_k:
        weights, ids = sampler.top_k_weights(tensor, [row])
        weights = torch.zeros_like(tensor).scatter(1, ids, weights[:, : ids.shape[1]])
    else:
        weights = sampler.filtered_weights(tensor, [row])[:, : len(logits)]
    return (weights / weights.sum())[0]


def reference(logits: list[float], params: SamplingParams) -> list[float]:
    """The filters one after another, on a dict of probabilities, as their papers describe them."""

    def normalised(weights: dict[int, float]) -> dict[int, float]:
        total = sum(weights.values())
        return {i: w / total for i, w in weights.items()}

    top = max(logits)
    kept = normalised({i: math.exp((x - top) / params.temperature) for i, x in enumerate(logits)})
    if params.top_k:
        kept = normalised(dict(sorted(kept.items(), key=lambda item: -item[1])[: params.top_k]))
    if params.top_p < 1:
        mass, nucleus = 0.0, {}
        for i, p in sorted(kept.items(), key=lambda item: -item[1]):
            if mass >= params.top_p:
                break
            nucleus[i] = p
            mass += p
        kept = normalised(nucleus)
    if params.min_p:
        floor = params.min_p * max(kept.values())
        kept = normalised({i: p for i, p in kept.items() if p >= floor})
    if params.typical_p < 1:
        entropy = -sum(p * math.log(p) for p in kept.values())
        mass, typical = 0.0, {}
        for i, p in sorted(kept.items(), key=lambda item: abs(-math.log(item[1]) - entropy)):
            if mass >= params.typical_p:
                break
            typical[i] = p
            mass += p
        kept = normalised(typical)
    return [kept.get(i, 0.0) for i in range(len(logits))]


CASES = [
    SamplingParams(),
    SamplingParams(temperature=0.7),
    SamplingParams(temperature=1.5, top_k=5),
    SamplingParams(top_p=0.8),
    SamplingParams(min_p=0.1),
    SamplingParams(typical_p=0.7),
    SamplingParams(temperature=1.3, top_k=20, top_p=0.9, min_p=0.02),
    SamplingParams(top_k=15, typical_p=0.6),
]


@pytest.mark.parametrize("params", CASES, ids=str)
def test_draws_follow_the_reference_distribution(params: SamplingParams) -> None:
    draws = 4000
    logits = logits_of()
    expected = reference(logits, params)
    many = torch.tensor(logits).repeat(draws, 1)
    chosen = sampler.sample(many, [row(params, seed) for seed in range(draws)])
    counts = torch.bincount(torch.tensor(chosen), minlength=VOCAB).double()
    support = torch.tensor(expected) > 0
    assert counts[~support].sum() == 0
    expected_counts = torch.tensor(expected).double() * draws
    often = expected_counts >= 5
    statistic = float(((counts - expected_counts)[often] ** 2 / expected_counts[often]).sum())
    freedom = max(int(often.sum()) - 1, 1)
    assert statistic < freedom + 4 * math.sqrt(2 * freedom) + 8  # far in the tail of chi-square


@pytest.mark.parametrize("params", CASES, ids=str)
def test_the_distribution_is_the_references(params: SamplingParams) -> None:
    logits = logits_of(seed=3)
    got = distribution(logits, row(params))
    torch.testing.assert_close(got, torch.tensor(reference(logits, params)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("params", CASES, ids=str)
def test_a_window_of_a_large_vocabulary_gives_the_same_distribution(params: SamplingParams) -> None:
    flat, peaked = [x * 0.05 for x in logits_of(3000)], logits_of(3000)
    for logits in (flat, peaked):
        got = distribution(logits, row(params))
        torch.testing.assert_close(got, torch.tensor(reference(logits, params)), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("spread", "top_p", "least"), [(0.05, 0.9, 40_000), (1.0, 0.9, 8_000), (4.0, 0.9, 20)])
def test_a_nucleus_of_the_real_vocabulary_is_exact_however_large_it_is(spread: float, top_p: float, least: int) -> None:
    logits = [x * spread / 2 for x in logits_of(50257)]
    got = distribution(logits, row(SamplingParams(top_p=top_p)))
    expected = torch.tensor(reference(logits, SamplingParams(top_p=top_p)))
    assert int((expected > 0).sum()) >= least
    assert int(((got > 0) != (expected > 0)).sum()) <= 1  # the reference adds up in another order
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-3)


def test_a_draw_is_never_a_token_that_was_left_out() -> None:
    few = torch.full((300, 1000), -math.inf)
    few[:, [3, 131, 640]] = torch.tensor([0.0, 1.0, 1e-3])
    rows = [row(case, seed) for seed in range(len(few)) for case in (CASES[seed % len(CASES)],)]
    assert set(sampler.sample(few, rows)) == {3, 131, 640}


def test_the_same_seed_and_place_choose_the_same_token_in_any_batch() -> None:
    rows = [row(replace(case, seed=i), seed=i, new=(3,) * i) for i, case in enumerate(CASES)]
    logits = torch.tensor([logits_of(seed=i) for i in range(len(rows))])
    together = sampler.sample(logits.clone(), rows)
    alone = [sampler.sample(logits[i : i + 1].clone(), [rows[i]])[0] for i in range(len(rows))]
    assert together == alone


def test_equally_likely_tokens_are_drawn_alike_whatever_top_k_others_ask_for() -> None:
    rows = [row(SamplingParams(top_k=k), seed=k) for k in (1, 3, 50, 200)]
    logits = torch.zeros(len(rows), 300)
    together = sampler.sample(logits.clone(), rows)
    assert together == [sampler.sample(logits[:1].clone(), [one])[0] for one in rows]


def test_random_numbers_are_uniform_over_seeds_and_over_places() -> None:
    for numbers in (
        [sampler.uniform(7, place) for place in range(5000)],
        [sampler.uniform(s, 0) for s in range(5000)],
    ):
        bins = torch.histc(torch.tensor(numbers), 20, 0, 1)
        assert float(((bins - 250) ** 2 / 250).sum()) < 19 + 4 * math.sqrt(38)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = logits_of()
    assert sampler.sample(torch.tensor([logits]), [row(SamplingParams(temperature=0))]) == [logits.index(max(logits))]


def test_penalties_follow_their_definitions() -> None:
    params = SamplingParams(repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2)
    logits = logits_of()
    expected = list(logits)
    for i in (1, 2, 5, 6):  # seen in prompt or answer
        expected[i] = expected[i] / 1.3 if expected[i] > 0 else expected[i] * 1.3
    for i, times in ((5, 2), (6, 1)):  # generated
        expected[i] -= 0.4 + 0.2 * times
    got = torch.tensor([logits, logits])
    process_logits(got, [row(SamplingParams()), row(params, new=(5, 6, 5))])
    torch.testing.assert_close(got, torch.tensor([logits, expected]))


def test_bans_biases_grammar_and_forced_tokens_leave_only_what_they_allow() -> None:
    allowed = torch.zeros(VOCAB, dtype=torch.bool)
    allowed[[3, 4]] = True
    rows = [
        row(SamplingParams(banned_token_ids=tuple(range(1, VOCAB)))),
        row(SamplingParams(forced_token_ids=(9, 8)), new=(9,)),
        SamplingMetadata(SamplingParams(logit_bias={4: 100.0}), 0, (1,), 1, frozenset(), allowed),
        SamplingMetadata(SamplingParams(min_new_tokens=2), 0, (1,), 1, frozenset(range(VOCAB)) - {7}),
    ]
    assert sampler.sample(torch.tensor([logits_of()] * 4), rows) == [0, 8, 4, 7]


def test_logprobs_are_normalised_and_ordered() -> None:
    logits = torch.tensor([logits_of(), logits_of(seed=1)])
    (value, best), (_, more) = sampler.logprobs(logits, [3, 4], 5)
    assert value == pytest.approx(float(logits[0].log_softmax(-1)[3]), abs=1e-5)
    assert [i for i, _ in best] == logits[0].topk(5).indices.tolist()
    assert more[0][1] == pytest.approx(float(logits[1].log_softmax(-1).max()), abs=1e-5)


def test_random_numbers_on_a_device_are_those_of_the_cpu() -> None:
    ids = torch.randint(50257, (3, 40), generator=torch.Generator().manual_seed(0))
    rows = [SamplingMetadata(SamplingParams(), seed, (1,), 1, frozenset()) for seed in (0, 7, 2**63 + 5)]
    keys = [sampler._mix(sampler._mix(row.seed & sampler.MASK64) + row.position) for row in rows]
    keys = torch.tensor([[key - (1 << 64 if key >> 63 else 0)] for key in keys])
    on_device = sampler._waiting_times_on_device(keys, ids)
    torch.testing.assert_close(on_device, sampler._waiting_times(ids, rows), rtol=1e-15, atol=0)
