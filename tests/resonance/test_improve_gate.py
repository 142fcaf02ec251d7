"""The gate of `resonance improve`: what is enough, what is better, what is worse, and what each attempt may spend."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from resonance.hydra_config import ConfigError, compose
from resonance.improve.evidence import EvidenceError, read_evidence
from resonance.improve.gate import (
    Check,
    Feedback,
    better,
    enough,
    no_worse,
    rejected_answers,
    trustworthy,
)
from resonance.improve.objectives import choose
from resonance.improve.power import detectable, level, pairs_needed
from resonance.improve.scores import Compared
from resonance.improve.settings import GateSettings, duration, quiet_hours, settings_of
from resonance.improve.training import balance_of

GATE = GateSettings("exact_match", 0.05, 0.25, 0.05, 0.1, ())


def compared(
    difference: float, p: float, low: float, high: float, *, metric: str = "exact_match", higher: bool = True
) -> Compared:
    return Compared("instruct", metric, 0.5, 0.5 + difference, difference, (low, high), p, 60, higher)


def test_the_levels_of_all_attempts_add_up_to_alpha() -> None:
    assert level(0.05, 1) == pytest.approx(0.025)
    assert sum(level(0.05, attempt) for attempt in range(1, 100_000)) == pytest.approx(0.05, abs=1e-6)


def test_a_smaller_gain_or_a_stricter_level_needs_more_pairs() -> None:
    # Connor 1987: (z sqrt(d) + z_power sqrt(d - gain^2))^2 / gain^2, with d = 0.35 of the pairs that differ.
    assert pairs_needed(0.25, 0.05, 0.025) == 51
    assert pairs_needed(0.10, 0.05, 0.025) > 150
    assert pairs_needed(0.25, 0.05, 0.025 / 3) > 51
    seen = detectable(51, 0.05, 0.025)
    assert seen is not None
    assert 0.2 < seen <= 0.2505
    assert detectable(3, 0.05, 0.025) is None


def test_too_little_feedback_is_refused_with_the_number_that_is_missing() -> None:
    check = enough(Feedback(held_out=20, could_gain=20), GATE, 1, share=0.2)
    assert not check.passed
    assert "takes 51: 31 more, which is about 155 more judged answers" in check.sentence
    assert enough(Feedback(60, 40), GATE, 1, share=0.2).passed
    assert not enough(Feedback(60, 40), GATE, 4, share=0.2).passed  # a stricter level


def test_feedback_that_approves_of_everything_cannot_prove_a_gain() -> None:
    check = enough(Feedback(held_out=100, could_gain=4), GATE, 1, share=0.2)
    assert not check.passed
    assert "no more than 4 points can be gained" in check.sentence


def test_a_gain_must_be_significant_at_the_level_of_its_attempt() -> None:
    gain = compared(0.2, 0.01, 0.05, 0.35)
    assert better(gain, GATE, 1).passed  # 0.01 <= 0.05 / 2
    refused = better(gain, GATE, 2)  # 0.01 > 0.05 / 6
    assert not refused.passed
    assert "p = 0.01 > 0.00833, the level of attempt 2" in refused.sentence
    assert not better(compared(-0.2, 0.001, -0.35, -0.05), GATE, 1).passed
    assert not better(None, GATE, 1).passed


def test_a_score_is_worse_when_its_whole_interval_is() -> None:
    fine = [compared(-0.02, 0.2, -0.05, 0.01), compared(0.1, 0.01, 0.02, 0.18)]
    assert no_worse(fine).passed
    assert not no_worse([*fine, compared(-0.05, 0.01, -0.09, -0.01)]).passed
    loss = compared(0.1, 0.01, 0.02, 0.2, metric="bits_per_byte", higher=False)
    refused = no_worse([loss])
    assert "instruct.bits_per_byte +0.1" in refused.sentence
    assert not no_worse([]).passed


def test_a_family_is_worse_only_after_the_adjustment_for_their_number() -> None:
    assert no_worse([compared(-0.2, 0.4, -0.35, -0.05, metric="by_family.sums")]).passed
    assert not no_worse([compared(-0.4, 0.01, -0.55, -0.2, metric="by_family.sums")]).passed


def agreement(pairs: int, disagreeing: int) -> dict[str, object]:
    owners = {"ada": {"compared": pairs, "contradicted": disagreeing}, "eve": {"compared": pairs, "contradicted": 0}}
    return {"questions": pairs, "pairs": pairs, "disagreeing": disagreeing, "owners": owners}


def test_people_who_contradict_each_other_are_not_learned_from() -> None:
    refused = trustworthy(agreement(60, 31), 0.1)
    assert not refused.passed
    assert "about 30% of the answers are wrong" in refused.sentence
    assert "Contradicted most often: ada (52%)" in refused.sentence
    assert trustworthy(agreement(60, 3), 0.1).passed
    assert trustworthy(agreement(3, 1), 0.1).passed  # too few to tell
    assert trustworthy(None, 0.1).passed
    assert "unknown" in trustworthy(agreement(0, 0), 0.1).sentence


def test_further_evidence_comes_from_files(tmp_path: Path) -> None:
    path = tmp_path / "canary.json"
    path.write_text(json.dumps([{"name": "canary", "passed": False, "sentence": "More thumbs down."}]))
    assert [each.check for each in read_evidence([path])] == [Check("canary", False, "More thumbs down.")]
    path.write_text('[{"name": "canary", "passed": null, "sentence": "Too few."}]')
    assert [each.check for each in read_evidence([path])] == [Check("canary", True, "Too few.", counted=False)]
    path.write_text('[{"name": "canary", "passed": "yes", "sentence": ""}]')
    with pytest.raises(EvidenceError, match="passed must be true, false or null"):
        read_evidence([path])
    path.write_text('[{"name": "canary", "passed": true, "sentence": "", "candidate": {"run": "a", "crc32": "1"}}]')
    with pytest.raises(EvidenceError, match="candidate and against must both be there"):
        read_evidence([path])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("held_out=0.9", "held_out must be a number from 0.01 to 0.5, not 0.9"),
        ("every=soon", "every must be a number and s, m, h or d, such as 24h, not 'soon'"),
        ("quiet_hours=8-20", "quiet_hours must be two times, such as 08:00-20:00"),
        ("gate.metric=exactmatch", "did you mean 'exact_match'"),
        ("gate.evidence=[nowhere.json]", "There is no file nowhere.json"),
        ("train.share=1.0", "train.share must be a number from 0.01 to 0.99"),
        ("training_consent=maybe", "training_consent must be ask, given or never"),
        ("gate.alfa=0.1", "There is no key 'gate.alfa'"),
        ("suite.tasks=[]", "suite.tasks must be a list"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(compose("improve", [override]))
    assert message in str(caught.value)


def test_quiet_hours_may_lie_over_midnight() -> None:
    night = quiet_hours("22:00-06:30")
    assert [night.holds(datetime(2026, 11, 29, hour, 15)) for hour in (21, 22, 3, 6, 7)] == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert duration("every", "1.5h") == 5400


@pytest.mark.parametrize(
    ("examples", "corrections", "pairs", "thumbs", "rejections", "objectives"),
    [
        (60, 50, 0, 80, 30, ["sft"]),  # corrections say more than thumbs
        (60, 50, 30, 80, 30, ["sft", "dpo"]),
        (5, 5, 30, 80, 30, ["dpo"]),
        (60, 5, 5, 80, 30, ["kto"]),  # the examples are answers with a thumb up
        (60, 5, 5, 60, 5, ["sft"]),
        (5, 5, 5, 10, 5, []),
    ],
)
def test_the_feedback_decides_by_what_is_trained(
    examples: int, corrections: int, pairs: int, thumbs: int, rejections: int, objectives: list[str]
) -> None:
    gathered = {
        "examples": examples, "corrections": corrections, "pairs": pairs, "thumbs": thumbs, "rejections": rejections,
    }  # fmt: skip
    choice = choose(gathered, settings_of(compose("improve", [])).train)
    assert choice.objectives == objectives
    assert all(name.upper() in choice.sentence for name in objectives)
    assert choice.judged_by == (objectives[0] if objectives else "sft")


def test_thumbs_up_and_down_weigh_the_same() -> None:
    assert balance_of(30, 60) == "objective.desirable_weight=2.000"
    assert balance_of(60, 30) == "objective.undesirable_weight=2.000"
    assert balance_of(0, 30) == "objective.desirable_weight=30.000"


def test_a_candidate_to_which_rejected_answers_are_less_likely_is_better() -> None:
    bits = [
        Compared("perplexity", "bits_per_byte", 0.4, 0.4 + change, change, (change / 2, change), 0.001, 40, False)
        for change in (0.3, -0.3)
    ]
    less_likely, likelier = (better(rejected_answers([each]), GATE, 1) for each in bits)
    assert less_likely.passed
    assert "bits per byte of answers that people rejected 0.400 before and 0.700 after" in less_likely.sentence
    assert "+0.300, p = 0.001" in less_likely.sentence
    assert not likelier.passed
