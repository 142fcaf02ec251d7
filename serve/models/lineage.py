"""How a served checkpoint came into service: what it was trained from, and what spoke for it."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from resonance.aliases import Alias, Move, read_aliases
from serve.api.schemas.responses import Evidence, Promotion
from serve.models.served_model import ServedModel

IMPROVED_FROM = "improved from"
LONGEST = 20  # ancestors
_NO_EVIDENCE = {IMPROVED_FROM, "attempt", "feedback_until", "learned_from", "verified", "scores", "note"}


def promotion_of(root: Path, model: ServedModel) -> Promotion | None:
    """The newest promotion of a model's checkpoint in `root`, the folder of the runs; None where there was none.

    Raises AliasError when the log is damaged.
    """
    aliases = read_aliases(root)
    if model.name in aliases:
        return _promotion(aliases[model.name], model.checkpoint)
    promotions = (_promotion(alias, model.checkpoint) for alias in aliases.values())
    return max((each for each in promotions if each), key=lambda each: each.at, default=None)


def _promotion(alias: Alias, run: str) -> Promotion | None:
    moves = [move for move in alias.log if move.run == run]
    if not moves:
        return None
    evidence: Mapping[str, Any] = next((move.evidence for move in reversed(moves) if not move.back), {})
    learned_from = evidence.get("learned_from")
    return Promotion(
        alias=alias.name,
        at=datetime.fromisoformat(moves[-1].at),
        back=moves[-1].back,
        verified=evidence.get("verified") is True,
        lineage=_lineage(alias.log, run),
        judgements=learned_from if isinstance(learned_from, int) else None,
        evidence=[
            Evidence(name=name, sentence=sentence)
            for name, sentence in evidence.items()
            if name not in _NO_EVIDENCE and isinstance(sentence, str)
        ],
    )


def _lineage(log: tuple[Move, ...], run: str) -> list[str]:
    parents = {move.run: str(move.evidence[IMPROVED_FROM]) for move in log if IMPROVED_FROM in move.evidence}
    found: list[str] = []
    while run in parents and len(found) < LONGEST:
        run = parents[run]
        found.append(run)
    return found
