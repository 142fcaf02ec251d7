"""`require=`: conditions on scores that end `resonance eval` with exit code 1 when they are not met.

    instruct.exact_match>=0.8                     a score; <= for perplexity and other scores that are better when lower
    instruct.by_family.capitals>=50%              a family's score
    instruct.exact_match no worse than production a paired comparison

"No worse" fails when the paired difference is on the worse side and its two-sided p-value is below 0.05; the p-values
of families are adjusted for their number. So it passes also where the items are too few to tell, and the line beside it
gives the smallest difference that they would show.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.example import Example
from eval import EvalError
from eval.evaluate import Evaluation, ScoreRow
from eval.paired import PairedTask
from eval.report.table import format_difference, format_score, format_value, verdict
from eval.results import family_groups
from eval.tasks.base import MetricSpec, Task
from resonance.errors import ResonanceError
from resonance.hydra_config import nearest

_THRESHOLD = re.compile(r"(?P<score>.+?)\s*(?P<sign>>=|<=)\s*(?P<value>.+)")
_COMPARISON = re.compile(r"(?P<score>.+?)\s+no worse than\s+(?P<other>.+)")
_FORMS = "write 'TASK.METRIC>=NUMBER', 'TASK.METRIC<=NUMBER' or 'TASK.METRIC no worse than CHECKPOINT'"


class RequirementsNotMet(EvalError):
    """Scores that fall short of what `require=` asks for."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on the score `name` of a task, such as `exact_match` or `by_family.capitals`.

    Either `sign` and `value`, or `other`, the checkpoint to compare with, are set.
    """

    text: str
    task: str
    name: str
    sign: Literal[">=", "<="] | None = None
    value: float = 0.0
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a requirement is met, and a sentence that says by how much."""

    met: bool
    sentence: str


def parse_requirements(texts: Sequence[str]) -> list[Requirement]:
    """Parse the conditions. Raises EvalError for one of another form."""
    return [_parse(text.strip()) for text in texts]


def check_requirements(
    requirements: Sequence[Requirement], tasks: Mapping[str, Task[Any]], families: Mapping[str, Sequence[str]]
) -> None:
    """Raise EvalError for a task or score that the evaluation will not have; `families` are the items' by task."""
    for requirement in requirements:
        if requirement.task not in tasks:
            raise EvalError(
                f"require={requirement.text!r} needs the task {requirement.task!r}, which is not among those that run; "
                f"{nearest(requirement.task, list(tasks))}"
            )
        task = tasks[requirement.task]
        specs = _specs(task.metrics, families.get(requirement.task, ()))
        if requirement.name not in specs:
            if isinstance(task, PairedTask):  # whose further metrics depend on what it is compared with
                continue
            raise EvalError(
                f"require={requirement.text!r} names no score of {requirement.task}; "
                f"{nearest(requirement.name, list(specs))}"
            )
        _check_value(requirement, specs[requirement.name])


def outcomes(
    requirements: Sequence[Requirement],
    evaluations: Sequence[Evaluation],
    rows: Sequence[ScoreRow],
    places: Mapping[str, int],
) -> list[Outcome]:
    """Each requirement's outcome; `places` are the columns in `evaluations` of the checkpoints named in them."""
    found = {(row.task, row.name if row.group is None else f"{row.group}.{row.name}"): row for row in rows}
    results = evaluations[0].results
    return [
        _outcome(each, found.get((each.task, each.name)), results[each.task].error, evaluations, places)
        for each in requirements
    ]


def _outcome(
    requirement: Requirement,
    row: ScoreRow | None,
    error: str | None,
    evaluations: Sequence[Evaluation],
    places: Mapping[str, int],
) -> Outcome:
    score = f"{requirement.task}.{requirement.name}"
    if error is not None:
        return Outcome(False, f"{score}: {requirement.task} did not run: {error}")
    if row is None or row.scores[0] is None:
        return Outcome(False, f"{score}: there is no score, because no item has this observation.")
    if requirement.other is None:
        value = row.scores[0].value
        met = value >= requirement.value if requirement.sign == ">=" else value <= requirement.value
        needed = f"{requirement.sign} {format_value(requirement.value, share=row.share)}"
        shown = format_score(row.scores[0], share=row.share)
        return Outcome(met, f"{score} is {shown}, and {needed} is required.")
    place = places[requirement.other]
    other = evaluations[place]
    difference = row.differences[place - 1]
    if difference is None:
        reason = other.results[requirement.task].error or "the two have no item in common"
        return Outcome(False, f"{score} cannot be compared with {other.label}: {reason}.")
    worse = verdict(row, difference) == "worse"
    detectable = (
        "no difference would be detected"
        if difference.detectable is None
        else f"differences from {_size(difference.detectable, share=row.share)} on would be detected"
    )
    return Outcome(
        not worse,
        f"{score} is {'significantly worse than' if worse else 'no worse than'} {other.label}: "
        f"{format_difference(difference, share=row.share)}, n = {difference.n} ({detectable}).",
    )


def _size(value: float, *, share: bool) -> str:
    return f"{100 * value:.1f} points" if share else format_value(value, share=False)


def _parse(text: str) -> Requirement:
    if match := _COMPARISON.fullmatch(text):
        return Requirement(text, *_split(text, match["score"]), other=match["other"].strip())
    if match := _THRESHOLD.fullmatch(text):
        number = match["value"].strip()
        try:
            value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
        except ValueError:
            raise EvalError(f"require={text!r} compares with {number!r}, which is no number; {_FORMS}.") from None
        sign: Literal[">=", "<="] = ">=" if match["sign"] == ">=" else "<="
        return Requirement(text, *_split(text, match["score"]), sign=sign, value=value)
    raise EvalError(f"require={text!r} is no requirement; {_FORMS}.")


def _split(text: str, score: str) -> tuple[str, str]:
    task, _, name = score.strip().partition(".")
    if not task or not name:
        raise EvalError(f"require={text!r} needs a task and a score, such as instruct.exact_match; {_FORMS}.")
    return task, name


def _specs(metrics: Mapping[str, MetricSpec], families: Sequence[str]) -> dict[str, MetricSpec]:
    """The specifications of all scores by name, families' included."""
    grouped = {
        f"{group}.{family}": metrics[name] for name, group in family_groups(metrics).items() for family in families
    }
    return {**metrics, **grouped}


def _check_value(requirement: Requirement, spec: MetricSpec) -> None:
    if requirement.sign is None:
        return
    if spec.share and not 0 <= requirement.value <= 1:
        raise EvalError(
            f"require={requirement.text!r}: {requirement.name} is a share between 0 and 1 (or 0% and 100%), "
            f"so it cannot be {requirement.sign} {requirement.value:g}."
        )
    if (requirement.sign == ">=") != spec.higher_is_better:
        better, right = ("higher", ">=") if spec.higher_is_better else ("lower", "<=")
        raise EvalError(
            f"require={requirement.text!r}: {requirement.name} is better when {better}; write {right} instead of "
            f"{requirement.sign}."
        )


def families_of(tasks: Mapping[str, Task[Any]], examples: Sequence[Example]) -> dict[str, list[str]]:
    """The families of each task's items; none where the task cannot run, which its result will say."""
    found: dict[str, list[str]] = {}
    for name, task in tasks.items():
        try:
            found[name] = sorted({item.group for item in task.items(examples) if item.group is not None})
        except ResonanceError:
            continue
    return found


def not_met(found: Sequence[Outcome]) -> RequirementsNotMet | None:
    """The error that names every requirement that is not met; None if all are."""
    failed = [outcome.sentence for outcome in found if not outcome.met]
    if not failed:
        return None
    return RequirementsNotMet("\n".join([f"{len(failed)} of {len(found)} requirements are not met:", *failed]))
