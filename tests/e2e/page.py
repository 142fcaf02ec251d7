"""What a reader does with the page, as the tests of every screen need it."""

from collections.abc import Callable
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

Page = sync_api.Page
Locator = sync_api.Locator
Open = Callable[..., Page]

NARROW = {"viewport": {"width": 320, "height": 600}, "has_touch": True}
BRAKK = "Who built the lighthouse of Brakk?"
AXE = Path(__file__).resolve().parents[2] / "serve" / "web" / "node_modules" / "axe-core" / "axe.min.js"
AT_REST = """[...document.querySelectorAll('main li, main article')].every(e => getComputedStyle(e).opacity === '1')
  && document.getAnimations().every(
    a => a.playState !== 'running' || a.effect.getComputedTiming().endTime === Infinity)"""


def send(page: Page, text: str) -> None:
    """Send a message; its answer may still be on its way."""
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Control+Enter")  # on a phone, Enter alone makes a line


def wait_for_answer(page: Page) -> None:
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()


def ask(page: Page, text: str) -> None:
    """Send a message and wait for the whole answer."""
    send(page, text)
    wait_for_answer(page)


def answers(page: Page) -> Locator:
    return page.get_by_role("log").locator("article[data-role=assistant]")


def conversations(page: Page) -> Locator:
    return page.get_by_role("navigation", name="Conversations").get_by_role("link")


def choose(page: Page, menu: str, item: str) -> None:
    """Open a menu by its button's name and choose one of its items."""
    page.get_by_role("button", name=menu).click()
    page.get_by_role("menuitem", name=item).click()
    expect(page.get_by_role("menu")).to_have_count(0)


def check_accessibility(page: Page, screen: str) -> None:
    """Fail with what axe finds serious on the screen as it stands."""
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (npm ci in serve/web)")
    page.wait_for_timeout(100)
    for _ in range(100):  # axe takes what is being faded in for pale; the page's policy forbids wait_for_function
        if page.evaluate(AT_REST):
            break
        page.wait_for_timeout(100)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    serious = [(v["id"], v["nodes"][0]["html"][:300]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == [], screen
