"""Chooses by what an attempt trains, as the feedback allows: SFT, DPO, one after the other, or KTO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from resonance.improve.settings import TrainSettings

Objective: TypeAlias = Literal["sft", "dpo", "kto"]
LEARNS: Mapping[str, str] = {"sft": "examples", "dpo": "pairs", "kto": "thumbs"}  # as the stage `gather` counts it


@dataclass(frozen=True, slots=True)
class Choice:
    """The objectives in their order, and a sentence on why; without any, there is too little of everything."""

    objectives: Sequence[Objective]
    sentence: str

    @property
    def judged_by(self) -> Objective:
        """The objective whose held-out feedback decides on the candidate."""
        return self.objectives[0] if self.objectives else "sft"


def choose(gathered: Mapping[str, Any], settings: TrainSettings) -> Choice:
    """The objectives for what was gathered.

    Thumbs alone are for KTO: approved answers could be learned by SFT as well, but what was rejected could not. Where
    there are enough corrections or comparisons, these say more, and thumbs down that nobody explained are left out.
    """
    examples, pairs = int(gathered["examples"]), int(gathered["pairs"])
    # An attempt of an earlier version, which was interrupted, did not count these.
    corrections, thumbs = int(gathered.get("corrections", examples)), int(gathered.get("thumbs", 0))
    rejections = int(gathered.get("rejections", 0))
    few = corrections < settings.min_examples and pairs < settings.min_pairs
    if few and rejections >= settings.min_thumbs:
        return Choice(
            ["kto"],
            f"Thumbs alone ({thumbs - rejections} up and {rejections} down; {corrections} corrections and {pairs} "
            "comparisons are too few): KTO.",
        )
    objectives: list[Objective] = []
    if examples >= settings.min_examples:
        objectives.append("sft")
    if pairs >= settings.min_pairs:
        objectives.append("dpo")
    if not objectives:
        return Choice(
            [],
            f"There are {examples} examples, {pairs} pairs and {rejections} thumbs down to learn from, and training "
            f"takes {settings.min_examples} examples, {settings.min_pairs} pairs or {settings.min_thumbs} thumbs down.",
        )
    parts = {"sft": f"{examples} corrections and approved answers: SFT", "dpo": f"{pairs} comparisons: DPO"}
    return Choice(objectives, "; ".join(parts[each] for each in objectives) + ".")
