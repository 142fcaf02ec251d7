"""Searches in the chat: sources, reasons for none, and the query as a chip."""

import json
import re

import httpx
import pytest

from .page import BRAKK, Open, Page, ask, expect, send, wait_for_answer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_sources_stand_before_the_answer_that_draws_on_them(open_page: Open) -> None:
    page = open_page(settings={"search": "on"})
    send(page, BRAKK)
    expect(page.get_by_role("list", name="Sources").get_by_role("listitem").first).to_contain_text("Ada Holm")
    wait_for_answer(page)
    page.get_by_role("button", name="Answer again without search").click()
    expect(page.get_by_text("2 of 2")).to_be_attached()
    expect(page.get_by_role("list", name="Sources")).to_have_count(0)


def test_a_search_left_to_the_server_says_why_there_was_none_and_can_be_had_after_all(open_page: Open) -> None:
    page = open_page()
    ask(page, "Write a poem about Brakk")
    expect(page.get_by_text("Not searched: works on words that it already has")).to_be_visible()
    page.get_by_role("button", name="Search after all").click()
    expect(page.get_by_text("2 of 2")).to_be_attached()
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    expect(page.get_by_text("Not searched")).to_have_count(0)


def test_the_query_is_a_chip_whose_words_can_be_changed(open_page: Open) -> None:
    page = open_page()
    ask(page, BRAKK)
    expect(page.get_by_text("asks for a fact about Brakk")).to_be_visible()
    chip = page.get_by_role("button", name=re.compile("^Search for something else: .*lighthouse.*Brakk"))
    chip.click()
    page.keyboard.press("Escape")
    expect(chip).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("textbox", name="Search for something else").fill("ninety-one steps")
    with page.expect_request("**/v1/chat/stream") as sent:
        page.keyboard.press("Enter")
    assert json.loads(sent.value.post_data or "")["search"] == {"query": "ninety-one steps"}
    expect(page.get_by_role("button", name="Search for something else: ninety-one steps")).to_be_visible()
    expect(page.get_by_role("list", name="Sources").get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_text("2 of 2")).to_be_attached()


def test_the_composer_turns_the_search_off_and_on_by_keyboard(open_page: Open) -> None:
    page = open_page()
    toggle = page.get_by_role("button", name=re.compile("^Search: "))
    for key, mode, expected in (("Home", "Off", False), ("o", "On", True)):
        expect(toggle).to_have_attribute("aria-haspopup", "menu")
        toggle.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("menuitemradio", name="Off")).to_be_focused()
        page.keyboard.press(key)
        expect(page.get_by_role("menuitemradio", name=re.compile(f"^{mode} "))).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("menu")).to_have_count(0)
        expect(toggle).to_have_text(f"Search: {mode}")
        page.get_by_role("textbox", name="Message").fill(BRAKK)
        with page.expect_request("**/v1/chat/stream") as sent:
            page.keyboard.press("Enter")
        assert json.loads(sent.value.post_data or "")["search"] is expected
        expect(page.get_by_role("button", name="Regenerate")).to_be_visible()


def test_a_conversation_keeps_its_choice_of_sources_in_every_tab_and_after_a_reload(open_page: Open, server) -> None:
    page = open_page()
    choose_sources(page, "None")
    with page.expect_request("**/v1/chat/stream") as sent:
        ask(page, BRAKK)
    assert json.loads(sent.value.post_data or "")["search_sources"] == "off"
    expect(page.get_by_role("button", name="Search: None")).to_be_visible()
    expect(page.get_by_role("list", name="Sources")).to_have_count(0)
    second = page.context.new_page()
    second.goto(page.url)
    expect(second.get_by_role("button", name="Search: None")).to_be_visible()
    choose_sources(page, "Documents")
    expect(second.get_by_role("button", name="Search: Auto")).to_be_visible()
    ask(page, "And how many steps has the lighthouse of Brakk?")
    expect(page.get_by_role("list", name="Sources")).to_have_count(1)
    page.evaluate("localStorage.removeItem('resonance.settings')")  # as another browser finds it
    choose_sources(page, "None")
    stored = f"{server.base}/v1/conversations/{httpx.URL(page.url).path.removeprefix('/c/')}"
    expect(second.get_by_role("button", name="Search: None")).to_be_visible()
    assert httpx.get(stored).json()["search_sources"] == "off"
    page.reload()
    expect(page.get_by_role("button", name="Search: None")).to_be_visible()
    page.get_by_role("button", name="New chat").first.click()
    expect(page.get_by_role("button", name="Search: Auto")).to_be_visible()


def choose_sources(page: Page, name: str) -> None:
    page.get_by_role("button", name=re.compile("^Search: ")).click()
    page.get_by_role("menuitemradio", name=re.compile(f"^{name}")).click()
    expect(page.get_by_role("menu")).to_have_count(0)
