"""A server that plays DuckDuckGo."""

from collections.abc import Iterator

import pytest

from ...fake_duckduckgo import FakeDuckDuckGo


@pytest.fixture
def fake() -> Iterator[FakeDuckDuckGo]:
    server = FakeDuckDuckGo()
    yield server
    server.close()
