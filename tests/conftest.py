"""What every room's tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from serve.web.scripts import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A Chromium for a file's tests. Playwright's event loop runs as long as it does, beside which no other can."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if chromium.EXECUTABLE is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium.EXECUTABLE, args=chromium.ARGUMENTS)
        yield running
        running.close()
