"""The harness's metrics as specifications of ours.

The harness has a value per item and a function that aggregates them. Where the aggregation is a mean, a ratio of sums
or a perplexity, scores and intervals come from the records as for our own tasks. Other aggregations (Matthews's
correlation, BLEU over a corpus) have no value for a single item.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from eval.tasks.base import MetricSpec

Aggregation = Callable[[Sequence[Any]], float]
Form = Literal["mean", "perplexity", "weighted_perplexity", "bits_per_byte", "share_of_all", "whole"]

# An aggregation is recognised by what it makes of these values.
_PROBES: tuple[tuple[Form, list[Any], float], ...] = (
    ("mean", [0.0, 1.0, 0.25], 1.25 / 3),
    ("perplexity", [-1.0, -2.0], math.exp(1.5)),
    ("weighted_perplexity", [(-1.0, 2), (-3.0, 1)], math.exp(4 / 3)),
    ("bits_per_byte", [(-1.0, 2), (-3.0, 1)], 4 / 3 / math.log(2)),
    ("share_of_all", [[True], [False, False]], 1 / 3),
)
_BY_ITEM = {"acc", "acc_norm", "acc_bytes", "acc_mutual_info"}  # 0 or 1 for each item of the harness's own scoring
_CHECKED_PROMPTS = {"prompt_level_strict_acc", "prompt_level_loose_acc"}  # of ifeval


@dataclass(frozen=True, slots=True)
class HarnessMetric:
    """One metric of a task under one of its filters of answers.

    `spec` is None where single items have no value. `is_verdict`: its 1 means that the answer is right.
    """

    name: str
    key: str  # the harness's own name
    filter: str
    form: Form
    spec: MetricSpec | None
    aggregate: Aggregation

    @property
    def is_verdict(self) -> bool:
        """Whether the metric says if an answer is right."""
        return self.spec is not None and self.spec.kind == "proportion"

    def of(self, filter_name: str, scored: Mapping[str, object]) -> bool:
        """Whether this metric has a value among those that the harness made under this filter."""
        return self.filter == filter_name and self.key in scored

    def observe(self, value: object) -> tuple[float, float] | None:
        """The numerator and denominator of one item's value; None where it has none."""
        match self.form, value:
            case "mean", bool() | Real():
                number = float(value)
                return None if math.isnan(number) else (number, 1.0)
            case "perplexity", Real():
                return -float(value), 1.0
            case "weighted_perplexity", (Real() as log_likelihood, Real() as weight):
                return -float(log_likelihood), float(weight)
            case "bits_per_byte", (Real() as log_likelihood, Real() as size):
                return -float(log_likelihood) / math.log(2), float(size)
            case "share_of_all", list() if value:
                return float(sum(map(float, value))), float(len(value))
            case _:
                return None


def harness_metrics(task: Any) -> list[HarnessMetric]:
    """The metrics of an `lm_eval.api.task.Task`, in its order, by filter of answers."""
    filters = [each.name for each in task._filters]
    higher: Mapping[str, bool] = task.higher_is_better()
    found: list[HarnessMetric] = []
    for filter_name in filters:
        for key, aggregate in task.aggregation().items():
            suffix = f"_{filter_name}" if len(filters) > 1 else ""
            form = _form(aggregate)
            found.append(
                HarnessMetric(
                    name=_plain(key + suffix),
                    key=key,
                    filter=filter_name,
                    form=form,
                    spec=_spec(task, key, form, higher_is_better=bool(higher.get(key, True))),
                    aggregate=aggregate,
                )
            )
    return found


def _form(aggregate: Aggregation) -> Form:
    for form, values, expected in _PROBES:
        try:
            value = float(aggregate(values))
        except Exception:  # an aggregation of other values
            continue
        if math.isclose(value, expected, rel_tol=1e-9):
            return form
    return "whole"


def _spec(task: Any, key: str, form: Form, *, higher_is_better: bool) -> MetricSpec | None:
    if form == "whole":
        return None
    if form == "mean":
        zero_or_one = (
            key in _CHECKED_PROMPTS
            if task.config.process_results is not None
            else key in _BY_ITEM or (key == "exact_match" and task.OUTPUT_TYPE == "generate_until")
        )
        kind = "proportion" if zero_or_one else "mean"
        return MetricSpec(kind, share=zero_or_one, higher_is_better=higher_is_better)
    kind = "ratio" if form in ("bits_per_byte", "share_of_all") else "perplexity"
    return MetricSpec(kind, share=form == "share_of_all", higher_is_better=higher_is_better)


def _plain(name: str) -> str:
    """A metric's name without dots, which nest scores in `eval.json`."""
    return name.replace("-", "_").replace(".", "_")
