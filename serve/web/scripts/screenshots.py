"""Take screenshots of the page's main screens from a running server, for the README.

    python serve/web/scripts/screenshots.py http://127.0.0.1:8000 docs/screenshots

Needs Chromium on the machine and a server with a trained checkpoint.
"""

import json
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, sync_playwright

from serve.web.scripts import chromium

QUESTIONS = [
    "What is the capital of France?",
    "What is the opposite of hot?",
    "Order these words from A to Z: moon rain gold",
]
SETTLED = 900  # ms until animations are over


def open_page(browser: Browser, base: str, scheme: str, size: tuple[int, int], **settings: object) -> Page:
    """Open a page in a new browser context, with a colour scheme, a window size and the page's settings."""
    width, height = size
    context = browser.new_context(
        base_url=base, color_scheme=scheme, viewport={"width": width, "height": height}, locale="en-US",
        reduced_motion="reduce", device_scale_factor=1,
    )  # fmt: skip
    sampling = {"temperature": 0, "top_p": 1, "top_k": 0, "max_tokens": 128, "seed": 1}
    state = json.dumps({"state": {"sampling": sampling} | settings, "version": 3})
    context.add_init_script(f"localStorage.setItem('resonance.settings', {json.dumps(state)})")
    return context.new_page()


def screenshot(page: Page, folder: Path, name: str) -> None:
    """Save a screenshot after the animations."""
    page.wait_for_timeout(SETTLED)
    page.screenshot(path=folder / f"{name}.png")


def chat(page: Page, questions: list[str]) -> None:
    """Ask one question after another in a new chat."""
    page.goto("/")
    answers = page.locator("article[data-role=assistant]")
    for i, question in enumerate(questions):
        page.get_by_role("textbox", name="Message").fill(question)
        page.keyboard.press("Enter")
        answers.nth(i).get_by_role("button", name="Regenerate").wait_for()


def take_all(browser: Browser, base: str, folder: Path) -> None:
    """Take a screenshot of every main screen: light, dark, narrow."""
    for scheme in ("light", "dark"):
        page = open_page(browser, base, scheme, (1280, 800))
        page.goto("/")
        screenshot(page, folder, f"new-chat-{scheme}")
        chat(page, QUESTIONS)
        screenshot(page, folder, f"chat-{scheme}")

    page = open_page(browser, base, "light", (1280, 800), tokenView=True)
    chat(page, ["Hello! Who are you?"])
    page.get_by_role("toolbar").get_by_role("button").nth(2).click()
    screenshot(page, folder, "tokens")

    page = open_page(browser, base, "dark", (1280, 800))
    page.goto("/?mode=compare")
    page.get_by_role("textbox", name="Prompt for both").fill(QUESTIONS[1])
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="A is better").wait_for()
    screenshot(page, folder, "compare")

    page = open_page(browser, base, "dark", (360, 720))
    chat(page, QUESTIONS[:2])
    screenshot(page, folder, "narrow")


def wait_for(base: str, seconds: float = 120) -> None:
    """Return when the server is ready to answer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with urlopen(f"{base}/health") as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    sys.exit(f"{base} is not ready after {seconds:.0f} s.")


def main() -> None:
    """Read the command line and take the screenshots."""
    if len(sys.argv) != 3:
        sys.exit("usage: screenshots.py http://HOST:PORT FOLDER")
    base, folder = sys.argv[1], Path(sys.argv[2])
    if chromium.EXECUTABLE is None:
        sys.exit("There is no Chromium on this machine; install one first.")
    folder.mkdir(parents=True, exist_ok=True)
    wait_for(base)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.EXECUTABLE, args=chromium.ARGUMENTS)
        take_all(browser, base, folder)
        browser.close()


if __name__ == "__main__":
    main()
