"""What every room's tests share."""

import signal
from pathlib import Path

import hypothesis
import pytest

# A shell's background job ignores Ctrl-C, and so would the programs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("resonance", deadline=None, max_examples=60)
hypothesis.settings.load_profile("resonance")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of reference data made by other people's code; it lies beside the checkout, not in it."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"reference data is not on this machine ({folder})")
    return folder
