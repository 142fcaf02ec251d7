"""The closed loop from chats to a promoted checkpoint, with the demo's checkpoint and a real server."""

import os
from pathlib import Path

import pytest

from .improve_proof import PEOPLE, prove

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    folder = Path(os.environ.get("RESONANCE_DEMO") or PROJECT / "checkpoints" / "demo")
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"the demo's checkpoint is not in {folder}; `make demo SERVE=0` trains it, RESONANCE_DEMO names it")
    return folder


def test_what_people_correct_makes_a_better_checkpoint_and_no_stream_is_dropped(
    checkpoint: Path, tmp_path: Path
) -> None:
    figures = prove("clean", checkpoint, tmp_path / "proof", None, [])
    assert figures["exit"] == 0, figures["printed"]
    assert figures["unseen"]["after"]["all"] >= figures["unseen"]["before"]["all"] + 0.1
    assert figures["streams"]["broken"] == []
    assert figures["streams"]["whole"] >= 8
    assert figures["back"] == "demo"
    # Everybody reads in /v1/learned which of the own judgements are in the new checkpoint, and nobody else's.
    (journal,) = figures["stages"]
    gathered = journal["stages"]["gather"]
    examples, splits = gathered["examples"], gathered["counts"]["splits"]
    learned = figures["learned"]
    trained, measured = (sum(uses[use] for _, uses in learned.values()) for use in ("trained", "measured"))
    assert trained == examples
    assert measured == splits["test example"] + splits["validation example"]
    for name, (checkpoint, uses) in learned.items():
        assert checkpoint["checkpoint"] == figures["served"]
        assert (checkpoint["state"], checkpoint["judgements"]) == ("in_service", examples)
        assert checkpoint["yours"] == uses["trained"]
        assert bool(uses) == (name in PEOPLE)  # the fifth person has not consented


def test_people_who_contradict_each_other_change_nothing(checkpoint: Path, tmp_path: Path) -> None:
    figures = prove("poisoned", checkpoint, tmp_path / "proof", None, [])
    assert figures["exit"] == 4, figures["printed"]
    assert "contradict each other" in figures["printed"]
    assert figures["served"] == "demo"
