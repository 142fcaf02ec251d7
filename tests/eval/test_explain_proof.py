"""Planted facts are found, and forgotten when they are withdrawn; `explain_proof.py` prints the same figures."""

from pathlib import Path

import pytest

from .explain_proof import prove


@pytest.mark.slow
def test_a_planted_fact_is_among_the_first_five_and_the_answer_changes_without_it(tmp_path: Path) -> None:
    found = prove(tmp_path)
    assert found["among_first_5"] >= 0.8
    assert found["before"] == "river" != found["withdrawn"]
