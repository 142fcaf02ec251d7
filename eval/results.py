"""A task's result for one model, and its scores in the form of `eval.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from eval.statistics import Metric, ScoreJson
from eval.tasks.base import MetricSpec, Record

Scores = dict[str, ScoreJson | dict[str, ScoreJson]]

BY_FAMILY = "by_family"


@dataclass(frozen=True, slots=True)
class Result:
    """A task's outcome for one model: metric specifications and records by item, in the items' order.

    `notes` are sentences that readers of the scores need, `provenance` is what the task adds to the scores' provenance.
    With an `error` the task did not run, and has no records.
    """

    specs: Mapping[str, MetricSpec]
    records: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None
    provenance: Mapping[str, object] = field(default_factory=dict[str, object])

    def metrics(self) -> dict[tuple[str | None, str], Metric]:
        """All metrics by (group, name): the task's own, those nested by a dot in their name, and those by family.

        The first metric with `by_group` is in `by_family`, a further one in `<metric>_by_family`.
        """
        found: dict[tuple[str | None, str], Metric] = {}
        for name, spec in self.specs.items():
            group, _, inner = name.rpartition(".")
            found[group or None, inner] = Metric.of_records(spec, name, self.records)
        families = sorted({record.group for record in self.records if record.group is not None})
        for name, group in family_groups(self.specs).items():
            for family in families:
                members = [record for record in self.records if record.group == family]
                found[group, family] = Metric.of_records(self.specs[name], name, members)
        own_first = sorted(found, key=lambda key: key[0] is not None)  # stable
        return {key: found[key] for key in own_first}


def family_groups(specs: Mapping[str, MetricSpec]) -> dict[str, str]:
    """The metrics that have scores by family, with the names under which `eval.json` holds those."""
    names = [name for name, spec in specs.items() if spec.by_group]
    return {name: BY_FAMILY if place == 0 else f"{name}_{BY_FAMILY}" for place, name in enumerate(names)}


def scores_of(result: Result, *, seed: int = 0) -> Scores:
    """A task's scores as `eval.json` stores them: the task's own by name, then one mapping per group.

    Metrics without any observation (the citation precision of answers that cite nothing) have no score.
    """
    if result.error is not None:
        return {}
    scores: Scores = {}
    for (group, name), metric in result.metrics().items():
        if metric.n:
            target = scores if group is None else scores.setdefault(group, {})
            cast("dict[str, ScoreJson]", target)[name] = metric.score(seed=seed).as_json()
    for group in family_groups(result.specs).values():
        scores.setdefault(group, {})
    return scores


def headline_of(scores: Mapping[str, object]) -> dict[str, object]:
    """The task's own scores, without groups, for `resonance.json` and the model card."""
    return {name: score for name, score in scores.items() if isinstance(score, dict) and "value" in score}
