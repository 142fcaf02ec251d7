"""The gate: all checks must pass before a candidate is promoted. Every check says what it found, in one sentence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from scipy.stats import binomtest

from resonance.improve.power import POWER, detectable, level, pairs_needed
from resonance.improve.scores import Compared
from resonance.improve.settings import GateSettings

REJECTED = "rejected"  # in place of a task's name


@dataclass(frozen=True, slots=True)
class Check:
    """One piece of evidence for or against a candidate; one that is not `counted` is neither, and passes."""

    name: str
    passed: bool
    sentence: str
    counted: bool = True

    def as_json(self) -> dict[str, object]:
        """The check, for the journal and as further evidence."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What is held out: answers that people judged since the last promotion.

    `could_gain` of them are not known to be answered rightly by the checkpoint in service.
    """

    held_out: int
    could_gain: int


def enough(feedback: Feedback, settings: GateSettings, attempt: int, share: float) -> Check:
    """Whether the held-out answers can show a gain of the size that should not be missed.

    `share` of what people judge is held out.
    """
    alpha = level(settings.alpha, attempt)
    needed = pairs_needed(settings.effect, settings.lost, alpha)
    seen = detectable(feedback.held_out, settings.lost, alpha)
    n = feedback.held_out
    sees = "no gain at all" if seen is None else f"gains from {100 * seen:.0f} points on"
    setting = f"at the level {alpha:.3g} of attempt {attempt}, with {POWER:.0%} power"
    if n < needed:
        more = needed - n
        return Check(
            "enough feedback",
            False,
            f"{n} held-out answers show {sees} ({setting}); a gain of {100 * settings.effect:.0f} points takes "
            f"{needed}: {more} more, which is about {math.ceil(more / share)} more judged answers.",
        )
    most = feedback.could_gain / n
    if seen is None or most < seen:
        return Check(
            "enough feedback",
            False,
            f"Of {n} held-out answers people approved of all but {feedback.could_gain}, so that no more than "
            f"{100 * most:.0f} points can be gained, and they show {sees} ({setting}): there is nothing to prove.",
        )
    return Check("enough feedback", True, f"{n} held-out answers show {sees} ({setting}).")


def trustworthy(agreement: Mapping[str, Any] | None, most: float) -> Check:
    """Whether people who answered the same question agree.

    Where each of two answers is wrong with probability e, independently, they disagree with probability
    1 - (1 - e)^2. The check fails where the lower end of e's 95% interval (Wilson's of the disagreement, by questions)
    is above `most`. It knows nothing of mistakes that all people share, nor of questions that one person alone
    answered.
    """
    name = "people agree"
    pairs = 0 if agreement is None else int(agreement["pairs"])
    if agreement is None or not pairs:
        return Check(name, True, "No question was answered by two people, so their agreement is unknown.")
    disagreeing, questions = int(agreement["disagreeing"]), int(agreement["questions"])
    share = disagreeing / pairs
    interval = binomtest(round(share * questions), questions).proportion_ci(confidence_level=0.95, method="wilson")
    wrong, low, high = (1 - math.sqrt(1 - min(1.0, value)) for value in (share, interval.low, interval.high))
    found = (
        f"{disagreeing} of {pairs} pairs of people who answered the same question contradict each other, so that about "
        f"{wrong:.0%} of the answers are wrong (95% interval {low:.0%} to {high:.0%})"
    )
    if low <= most:
        return Check(name, True, f"{found}.")
    worst = sorted(
        (
            (int(each["contradicted"]) / int(each["compared"]), str(owner))
            for owner, each in agreement["owners"].items()
        ),
        reverse=True,
    )
    names = ", ".join(f"{owner} ({part:.0%})" for part, owner in worst[:3])
    return Check(name, False, f"{found}; at most {most:.0%} may be. Contradicted most often: {names}.")


def better(held_out: Compared | None, settings: GateSettings, attempt: int) -> Check:
    """Whether the candidate is better on held-out feedback by the paired test, at the attempt's level."""
    name, alpha = "better on held-out feedback", level(settings.alpha, attempt)
    if held_out is None:
        return Check(name, False, "The held-out feedback could not be compared.")
    passed = held_out.gain > 0 and held_out.p <= alpha
    is_share = held_out.task != REJECTED
    form = "{:.1%}" if is_share else "{:.3f}"
    before = "?" if held_out.before is None else form.format(held_out.before)
    gain = f"{100 * held_out.gain:+.1f} points" if is_share else f"{held_out.gain:+.3f}"
    sign = "≤" if held_out.p <= alpha else ">"
    return Check(
        name,
        passed,
        f"{held_out.metric} {before} before and {form.format(held_out.after)} after on {held_out.n} held-out "
        f"answers: {gain}, p = {held_out.p:.3g} {sign} {alpha:.3g}, the level of attempt {attempt}.",
    )


def rejected_answers(scores: Sequence[Compared]) -> Compared | None:
    """How unlikely held-out answers with a thumb down are, in bits per byte: the more the better."""
    found = next((each for each in scores if each.metric == "bits_per_byte"), None)
    return found and replace(
        found, task=REJECTED, metric="bits per byte of answers that people rejected", higher_is_better=True
    )


def no_worse(standing: Sequence[Compared]) -> Check:
    """Whether no score of the standing suite is worse beyond the interval of its difference."""
    name = "worse nowhere else"
    if not standing:
        return Check(name, False, "The standing suite could not be compared.")
    worse = [each for each in standing if each.worse]
    if not worse:
        return Check(name, True, f"None of {len(standing)} scores of the standing suite is worse beyond its interval.")
    found = "; ".join(
        f"{each.task}.{each.metric} {each.difference:+.3g} (95% interval {each.ci95[0]:+.3g} to {each.ci95[1]:+.3g})"
        for each in worse
    )
    return Check(name, False, f"{len(worse)} of {len(standing)} scores are worse beyond their intervals: {found}.")
