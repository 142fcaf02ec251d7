"""The page for everybody: by keyboard, with a screen reader, at 320 pixels, with less motion; axe on every screen."""

import re

import pytest

from .page import (
    BRAKK,
    NARROW,
    Open,
    answers,
    ask,
    check_accessibility,
    choose,
    conversations,
    expect,
    wait_for_answer,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_everything_needed_is_done_by_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.keyboard.type("Typed, not clicked")
    page.keyboard.press("Enter")
    wait_for_answer(page)
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Commands")).to_be_focused()
    page.keyboard.type("new chat")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/$"))
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()


def test_every_place_is_reached_and_left_by_keyboard(open_page: Open) -> None:
    page = open_page()
    ask(page, "By keys alone")
    message = page.get_by_role("textbox", name="Message")
    expect(message).to_be_focused()
    page.keyboard.press("Control+,")
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    page.keyboard.press("Escape")
    expect(message).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    expect(message).to_be_focused()
    page.keyboard.press("Control+b")
    expect(page.get_by_role("navigation", name="Conversations")).to_have_count(0)
    page.keyboard.press("Control+b")
    conversations(page).first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Actions for By keys alone")).to_be_focused()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Commands")).to_be_focused()
    page.keyboard.type("compare")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()


def test_a_screen_reader_hears_of_an_answer_in_a_line_of_its_own(open_page: Open) -> None:
    page = open_page()
    ask(page, "Say something")
    log = page.get_by_role("log")
    expect(log).to_have_attribute("aria-busy", "false")
    status = page.get_by_role("status").filter(has_text="The answer is complete")
    expect(status).to_be_attached()
    expect(log.get_by_role("status").filter(has_text="The answer is complete")).to_have_count(0)


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_screen_is_wider_than_320_pixels(open_page: Open, language: str) -> None:
    page = open_page(settings={"language": language}, **NARROW)
    words = {"en": ("Message", "Compare", "Settings"), "de": ("Nachricht", "Vergleichen", "Einstellungen")}[language]

    def fits(screen: str) -> None:
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") == 320, screen
        beyond = "e => { const r = e.getBoundingClientRect(); return r.width > 0 && (r.right > 321 || r.left < -1) }"
        visible = "e => e.checkVisibility() && !e.closest('.sr-only, [aria-hidden=true]')"
        wide = page.evaluate(
            f"[...document.querySelectorAll('button, input, textarea, select, h1, h2')]"
            f".filter({visible}).filter({beyond}).map(e => e.outerHTML.slice(0, 120))"
        )
        assert wide == [], screen

    fits("new chat")
    page.get_by_role("textbox", name=words[0]).fill(BRAKK)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")
    fits("conversation")
    page.get_by_role("button", name=words[2]).click()
    expect(page.get_by_role("dialog", name=words[2])).to_be_visible()
    fits("settings")
    page.goto("/?mode=compare")
    expect(page.get_by_role("heading", name=words[1])).to_be_visible()
    fits("compare")
    page.goto("/?mode=complete")
    expect(page.get_by_role("heading").first).to_be_visible()
    fits("complete")


def test_a_window_of_320_pixels_holds_the_page(open_page: Open) -> None:
    page = open_page(viewport={"width": 320, "height": 568}, has_touch=True)
    ask(page, "Does this fit? " + "unbreakable" * 12)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    page.get_by_role("button", name="Open sidebar").click()
    page.get_by_role("link", name="Does this fit?").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_with_less_transparency_and_motion_nothing_shines_through_or_moves(open_page: Open) -> None:
    page = open_page(reduced_motion="reduce")
    page.context.new_cdp_session(page).send(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-transparency", "value": "reduce"},
                                                    {"name": "prefers-reduced-motion", "value": "reduce"}]}
    )  # fmt: skip
    ask(page, "Hold still")
    filters = "[...document.querySelectorAll('.glass')].map(e => getComputedStyle(e).backdropFilter)"
    assert set(page.evaluate(filters)) == {"none"}
    longest = "Math.max(0, ...document.getAnimations().map(a => a.effect.getComputedTiming().duration))"
    page.get_by_role("button", name="Settings").click()
    assert page.evaluate(longest) <= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_screen(open_page: Open, scheme: str) -> None:
    page = open_page(color_scheme=scheme, reduced_motion="reduce", settings={"search": "on"})

    check_accessibility(page, "new chat")
    ask(page, "Who built the lighthouse of Brakk?")
    check_accessibility(page, "conversation")
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_role("dialog", name="Settings")).to_be_visible()
    check_accessibility(page, "settings")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("region", name="Side A")).to_be_visible()
    check_accessibility(page, "compare")
    page.get_by_role("link", name="Raw completion").click()
    expect(page.get_by_role("textbox", name="Text to continue")).to_be_visible()
    check_accessibility(page, "raw completion")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_token_and_prompt_views(open_page: Open, scheme: str) -> None:
    page = open_page(color_scheme=scheme, reduced_motion="reduce", settings={"tokenView": True})
    ask(page, "What do you read?")

    page.get_by_role("toolbar").get_by_role("button").nth(1).hover()
    expect(page.get_by_role("dialog", name="What else was likely")).to_be_visible()
    check_accessibility(page, "tokens")
    page.mouse.move(5, 5)
    answers(page).hover()
    answers(page).get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Show the prompt").click()
    expect(page.get_by_role("dialog", name="Prompt").get_by_text("of 16384")).to_be_visible()
    check_accessibility(page, "prompt")


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_serious_in_any_menu_panel_or_dialog(open_page: Open, scheme: str) -> None:
    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    page.request.put("/v1/training-consent", data={"given": False})  # or a judgement would ask for it

    def look(screen: str) -> None:
        check_accessibility(page, screen)
        page.keyboard.press("Escape")
        page.wait_for_timeout(200)

    check_accessibility(page, "new chat")
    ask(page, BRAKK)
    check_accessibility(page, "sources")
    for name in ("Search: Auto", "Model: tiny", "Actions for all conversations", "Bad answer", "Settings"):
        button = page.get_by_role("button", name=name)
        button.click()
        expect(page.get_by_role("dialog").or_(page.get_by_role("menu"))).to_be_visible()
        look(name)
        expect(button).to_be_focused()
    page.get_by_role("button", name=re.compile("^Search for something else")).click()
    look("query")
    choose(page, "Actions for all conversations", "Delete all")
    look("delete all")
    page.get_by_role("searchbox", name="Search conversations").fill("Brakk")
    expect(page.get_by_role("navigation", name="Conversations").locator("mark").first).to_be_visible()
    check_accessibility(page, "passages")
    for command in ("Keyboard shortcuts", "API key"):
        page.keyboard.press("Control+k")
        page.get_by_role("combobox", name="Commands").fill(command)
        check_accessibility(page, "palette")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name=command)).to_be_visible()
        look(command)
    page.goto("/?mode=compare")
    page.get_by_role("textbox", name="Prompt for both").fill("Compare")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("button", name="A is better")).to_be_visible()
    check_accessibility(page, "compared")
    page.goto("/?mode=complete")
    expect(page.get_by_role("textbox", name="Text to continue")).to_be_visible()
    check_accessibility(page, "raw completion")
    page.set_viewport_size({"width": 320, "height": 600})
    page.goto("/")
    page.get_by_role("button", name="Open sidebar").click()
    expect(conversations(page).first).to_be_visible()
    check_accessibility(page, "drawer")
