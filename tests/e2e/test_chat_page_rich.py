"""What answers hold besides prose, and what a finger and a keyboard meet on the page."""

import json

import httpx
import pytest

from .conftest import Server
from .page import Open, Page, expect

pytestmark = pytest.mark.browser
PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
RICH = (
    "مرحبا بالعالم، هذا نص من اليمين.\n\nIt is so[^1].\n\n$$E = mc^2$$\n\n"
    "```mermaid\ngraph TD; Start-->End\n```\n\n```\nplain code\n```\n\n[^1]: As the book says."
)
SMALL = """() => [...document.querySelectorAll('button, a[href], textarea, input, select, [role=menuitem]')]
  .filter(e => e.checkVisibility({checkOpacity: true}) && !e.closest('p, li li, .prose-calm, .sr-only'))
  .filter(e => !e.matches('[type=file]') && getComputedStyle(e).position !== 'fixed')
  .map(e => [e.ariaLabel ?? e.textContent, e.getBoundingClientRect()])
  .filter(([, r]) => r.width > 0 && (r.width < 43.9 || r.height < 43.9))
  .map(([name, r]) => [name, r.width, r.height])"""
CLIPPED = """() => { let rings = 0;
  const clipped = [...document.querySelectorAll('button, a[href], textarea, input, [tabindex="0"]')]
  .filter(e => e.checkVisibility() && !e.closest('.sr-only, [aria-hidden=true]') && e.type !== 'file')
  .filter(e => {
    e.focus({focusVisible: true});
    const own = getComputedStyle(e), ring = parseFloat(own.outlineWidth) + parseFloat(own.outlineOffset);
    if (document.activeElement !== e || own.outlineStyle === 'none') return false;
    rings += 1;
    const r = e.getBoundingClientRect();
    for (let a = e.parentElement; a; a = a.parentElement) {
      const style = getComputedStyle(a), box = a.getBoundingClientRect();
      const [left, top] = [box.left + a.clientLeft, box.top + a.clientTop];
      const across = style.overflowX !== 'visible' && a.scrollWidth <= a.clientWidth;
      const down = style.overflowY !== 'visible' && a.scrollHeight <= a.clientHeight;
      if (across && (r.left - ring < left - 0.5 || r.right + ring > left + a.clientWidth + 0.5)) return true;
      if (down && (r.top - ring < top - 0.5 || r.bottom + ring > top + a.clientHeight + 0.5)) return true;
    }
  })
  .map(e => e.outerHTML.slice(0, 160));
  return {clipped, many: rings > 15}; }"""


def keep(server: Server, name: str, *contents: str) -> None:
    """Store a conversation whose messages say what is given, the first a question."""
    at = "2026-11-01T10:00:00Z"
    ids = [f"{name}-{i}" for i in range(len(contents))]
    messages = [
        {"id": own, "parent_id": parent, "role": role, "content": content, "created_at": at}
        for own, parent, role, content in zip(ids, [None, *ids], ["user", "assistant"] * 9, contents, strict=False)
    ]
    line = {"id": name, "title": name, "created_at": at, "updated_at": at, "messages": messages}
    headers = {"Content-Type": "application/x-ndjson"}
    url = f"{server.base}/v1/conversations.jsonl"
    assert httpx.post(url, content=json.dumps(line), headers=headers).status_code == 200


def direction(page: Page, text: str) -> str:
    return page.get_by_text(text).first.evaluate("e => getComputedStyle(e).direction")


def test_an_answer_has_right_to_left_text_footnotes_formulas_and_a_diagram_in_a_frame(open_page: Open, server: Server):
    keep(server, "rich", "ما هذا؟", RICH)
    page = open_page("/c/rich")
    expect(page.get_by_role("region", name="Footnotes")).to_contain_text("As the book says.")
    assert direction(page, "مرحبا") == "rtl"
    assert direction(page, "ما هذا؟") == "rtl"
    assert direction(page, "It is so") == "ltr"
    expect(page.locator("math[display=block]")).to_have_count(1)
    drawing = page.frame_locator("iframe[title=Diagram]").locator("svg")
    expect(drawing).to_contain_text("Start")
    assert page.frame_locator("iframe[title=Diagram]").locator("html").evaluate("() => self.origin") == "null"
    assert page.locator("iframe[title=Diagram]").bounding_box()["height"] > 90
    block = page.locator("pre", has_text="plain code")
    assert block.evaluate("e => e.getBoundingClientRect().top - e.parentElement.getBoundingClientRect().top") < 2
    assert page.evaluate(CLIPPED) == {"clipped": [], "many": True}


def test_on_a_phone_every_button_is_large_enough_and_enter_makes_a_line(open_page: Open, server: Server):
    keep(server, "phone", "One?", "Two.", "Three?", "Four.")
    page = open_page("/c/phone", **PHONE)
    expect(page.get_by_text("Four.")).to_be_visible()
    assert page.evaluate(SMALL) == []
    page.get_by_role("textbox", name="Message").fill("One line")
    page.keyboard.press("Enter")
    page.keyboard.type("and another")
    expect(page.get_by_role("textbox", name="Message")).to_have_value("One line\nand another")
    page.get_by_role("button", name="Open sidebar").tap()
    expect(page.get_by_role("link", name="phone")).to_be_visible()
    page.wait_for_timeout(400)
    assert page.evaluate(SMALL) == []


def test_escape_gives_the_focus_back_to_the_button_that_opened_the_edit(open_page: Open, server: Server):
    keep(server, "escape", "One?", "Two.")
    page = open_page("/c/escape")
    page.get_by_role("button", name="Edit").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Edit")).to_be_focused()
