"""Take screenshots of the page's main screens from a running server, for the README, and of pages in files.

    python serve/web/scripts/screenshots.py http://127.0.0.1:8000 docs/screenshots train-report=RUN/train.html

Needs Chromium on the machine and a server with a trained checkpoint. `NAME=FILE` takes one of a report.
"""

import base64
import json
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, Page, sync_playwright

from serve.web.scripts import chromium

QUESTIONS = [
    "What is the capital of France?",
    "What is the opposite of hot?",
    "Order these words from A to Z: moon rain gold",
]
WIDE, PHONE, TALL = (1280, 800), (360, 720), (1280, 1750)  # pixels
SETTLED = 900  # ms until animations are over
DOCUMENT = (
    "# Lighthouses\n\nA lighthouse warns ships of rocks.\n\n## Brakk\n\nThe lighthouse of Brakk was built in 1871 by "
    "Ada Holm. It has ninety-one steps.\n\n## Tolness\n\nThe lighthouse of Tolness was built in 1902 of red brick.\n"
)
ARABIC = [
    ("user", "ما هي عاصمة فرنسا؟"),
    (
        "assistant",
        "عاصمة فرنسا هي **باريس**.\n\n- تقع على نهر السين.\n\nIn English: *Paris*.",
    ),
    ("user", "اكتب `print` بلغة Python."),
    ("assistant", 'هكذا:\n\n```python\nprint("مرحبا")\n```'),
]


def open_page(browser: Browser, base: str, scheme: str, size: tuple[int, int] = WIDE, **settings: object) -> Page:
    """Open a page in a new browser context, with a colour scheme, a window size and the page's settings."""
    width, height = size
    context = browser.new_context(
        base_url=base, color_scheme=scheme, viewport={"width": width, "height": height}, locale="en-US",
        reduced_motion="reduce", device_scale_factor=1, has_touch=size == PHONE,
    )  # fmt: skip
    sampling = {"temperature": 0, "top_p": 1, "top_k": 0, "max_tokens": 128, "seed": 1}
    state = json.dumps({"state": {"sampling": sampling} | settings, "version": 3})
    context.add_init_script(f"localStorage.setItem('resonance.settings', {json.dumps(state)})")
    return context.new_page()


def screenshot(page: Page, folder: Path, name: str) -> None:
    """Save a screenshot after the animations, as WebP: a fifth of a PNG, whose deflate the soft light defeats."""
    page.wait_for_timeout(SETTLED)
    session = page.context.new_cdp_session(page)
    taken = session.send("Page.captureScreenshot", {"format": "webp", "quality": 90})
    (folder / f"{name}.webp").write_bytes(base64.b64decode(taken["data"]))


def chat(page: Page, questions: list[str], field: str = "Message", done: str = "Regenerate") -> None:
    """Ask one question after another; `field` and `done` are the page's names of the composer and of a button."""
    answers = page.locator("article[data-role=assistant]")
    for i, question in enumerate(questions):
        page.get_by_role("textbox", name=field).fill(question)
        page.keyboard.press("Control+Enter")
        answers.nth(i).get_by_role("button", name=done).wait_for()


def keep_arabic(base: str) -> None:
    """Store a conversation in a language that is written from right to left."""
    at = "2026-11-01T10:00:00Z"
    messages = [
        {"id": f"a{i}", "parent_id": f"a{i - 1}" if i else None, "role": role, "content": text, "created_at": at}
        for i, (role, text) in enumerate(ARABIC)
    ]
    line = {"id": "arabic", "title": ARABIC[0][1], "created_at": at, "updated_at": at, "messages": messages}
    headers = {"Content-Type": "application/x-ndjson"}
    urlopen(Request(f"{base}/v1/conversations.jsonl", json.dumps(line).encode(), headers)).close()


def take_all(browser: Browser, base: str, folder: Path) -> None:
    """Take a screenshot of every main screen, and of what stands beside a chat."""
    for scheme in ("light", "dark"):
        page = open_page(browser, base, scheme)
        page.goto("/")
        screenshot(page, folder, f"new-chat-{scheme}")
        chat(page, QUESTIONS)
        screenshot(page, folder, f"chat-{scheme}")

    page = open_page(browser, base, "light", tokenView=True)
    page.goto("/")
    chat(page, ["Hello! Who are you?"])
    page.get_by_role("toolbar").get_by_role("button").nth(2).click()
    screenshot(page, folder, "tokens")

    page = open_page(browser, base, "dark")
    page.goto("/?mode=compare")
    page.get_by_role("textbox", name="Prompt for both").fill(QUESTIONS[1])
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="A is better").wait_for()
    screenshot(page, folder, "compare")

    page = open_page(browser, base, "dark", PHONE)
    page.goto("/")
    chat(page, QUESTIONS[:2])
    screenshot(page, folder, "phone")

    page = open_page(browser, base, "light", language="de")
    page.goto("/")
    chat(page, QUESTIONS[:2], "Nachricht", "Neu erzeugen")
    page.get_by_role("button", name="Einstellungen").click()
    screenshot(page, folder, "german")

    keep_arabic(base)
    page = open_page(browser, base, "dark")
    page.goto("/c/arabic")
    page.get_by_role("log").get_by_role("article").last.wait_for()
    screenshot(page, folder, "right-to-left")
    take_beside_chats(browser, base, folder)


def take_beside_chats(browser: Browser, base: str, folder: Path) -> None:
    """Documents, sharing, and a message that is too long."""
    page = open_page(browser, base, "light")
    page.goto("/")
    lighthouses = {"name": "lighthouses.md", "mimeType": "text/markdown", "buffer": DOCUMENT.encode()}
    page.get_by_label("Attach documents").last.set_input_files([lighthouses])
    page.get_by_role("button", name="Open lighthouses.md").wait_for()
    chat(page, ["Who built the lighthouse of Brakk?"])
    page.get_by_role("list", name="Sources").get_by_role("link").first.click()
    page.get_by_role("dialog").locator("section[aria-current]").wait_for()
    screenshot(page, folder, "documents")

    page = open_page(browser, base, "dark")
    page.goto("/")
    chat(page, ["What is the plural of child?"])
    page.get_by_role("button", name="Actions for What is the plural of child?").click()
    page.get_by_role("menuitem", name="Share").click()
    page.get_by_role("button", name="Create a link").click()
    page.get_by_role("textbox", name="Link").wait_for()
    screenshot(page, folder, "share")

    page = open_page(browser, base, "light")
    page.goto("/")
    page.get_by_role("textbox", name="Message").fill("Summarise this: " + "The sea keeps what it is given. " * 90)
    page.keyboard.press("Enter")
    page.get_by_role("log").get_by_role("alert").wait_for()
    screenshot(page, folder, "too-long")


def take_report(browser: Browser, path: Path, folder: Path, name: str) -> None:
    """A report from a file, from its top to its curves."""
    page = open_page(browser, "about:blank", "light", TALL)
    page.goto(path.resolve().as_uri())
    screenshot(page, folder, name)


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
    if len(sys.argv) < 3 or not all("=" in report for report in sys.argv[3:]):
        sys.exit("usage: screenshots.py http://HOST:PORT FOLDER [NAME=REPORT ...]")
    base, folder = sys.argv[1], Path(sys.argv[2])
    if chromium.EXECUTABLE is None:
        sys.exit("There is no Chromium on this machine; install one first.")
    folder.mkdir(parents=True, exist_ok=True)
    wait_for(base)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.EXECUTABLE, args=chromium.ARGUMENTS)
        take_all(browser, base, folder)
        for name, _, path in (report.partition("=") for report in sys.argv[3:]):
            take_report(browser, Path(path), folder, name)
        browser.close()


if __name__ == "__main__":
    main()
