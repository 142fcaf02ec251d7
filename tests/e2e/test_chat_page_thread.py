"""What one does with the messages of a chat: continue, fork, delete, look into; against a real server."""

import re

import httpx
import pytest

from .page import Locator, Open, Page, answers, ask, expect, wait_for_answer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def text_of(page: Page) -> str:
    return answers(page).last.locator(".prose-calm, [role=toolbar]").inner_text().replace("⏎", "").strip()


def stored(page: Page, server) -> list[dict]:
    conversation = httpx.URL(page.url).path.removeprefix("/c/")
    return httpx.get(f"{server.base}/v1/conversations/{conversation}").json()["messages"]


def choose_for(page: Page, message: Locator, action: str) -> None:
    message.hover()
    message.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name=action).click()


def test_an_answer_that_was_cut_off_goes_on_and_stays_one_answer(open_page: Open, server) -> None:
    page = open_page(sampling={"max_tokens": 6})
    ask(page, "Go on when I say so")
    begun = text_of(page)
    page.get_by_role("button", name="Continue").click()
    wait_for_answer(page)
    whole = text_of(page)
    assert whole.startswith(begun)
    assert len(whole) > len(begun)
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()
    page.wait_for_function(
        "() => fetch(`/v1/conversations/${location.pathname.slice(3)}`)"
        ".then(r => r.json()).then(c => c.messages.length === 2)"
    )
    page.reload()
    expect(answers(page)).to_have_count(1)
    assert text_of(page) == whole
    expect(page.get_by_text("of 2", exact=False)).to_have_count(0)


def test_an_alternative_begins_an_answer_beside_the_first(open_page: Open, server) -> None:
    page = open_page(settings={"tokenView": True})
    ask(page, "Take another way")
    page.get_by_role("toolbar").get_by_role("button").nth(2).click()
    card = page.get_by_role("dialog", name="What else was likely")
    other = card.get_by_role("listitem").nth(1).locator("code").inner_text().replace("␣", " ")
    card.get_by_role("button", name=re.compile("^Go on with")).nth(1).click()
    expect(page.get_by_text("2 of 2")).to_be_attached()
    wait_for_answer(page)
    tokens = page.get_by_role("toolbar").get_by_role("button")
    assert tokens.nth(2).inner_text().strip() == other.strip()
    assert [message["role"] for message in stored(page, server)] == ["user", "assistant", "assistant"]


def test_pointing_at_a_token_shows_what_else_was_likely(open_page: Open) -> None:
    page = open_page(settings={"tokenView": True})
    ask(page, "Only look")
    page.get_by_role("toolbar").get_by_role("button").nth(1).hover()
    card = page.get_by_role("dialog", name="What else was likely")
    expect(card.get_by_role("listitem")).to_have_count(5)
    page.mouse.move(5, 5)
    expect(card).to_have_count(0)


def test_a_deleted_answer_comes_back_with_undo_and_is_gone_without(open_page: Open, server) -> None:
    page = open_page()
    ask(page, "An answer to lose")
    choose_for(page, answers(page), "Delete from here on")
    expect(answers(page)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(answers(page)).to_have_count(1)
    choose_for(page, answers(page), "Delete from here on")
    expect(answers(page)).to_have_count(0)
    page.wait_for_function(
        "() => fetch(`/v1/conversations/${location.pathname.slice(3)}`)"
        ".then(r => r.json()).then(c => c.messages.length === 1)"
    )
    page.reload()
    page.get_by_role("button", name="Answer", exact=True).click()
    wait_for_answer(page)
    expect(answers(page)).to_have_count(1)


def test_deleting_the_first_question_deletes_the_conversation(open_page: Open) -> None:
    page = open_page()
    ask(page, "The only question here")
    choose_for(page, page.get_by_role("log").locator("article[data-role=user]"), "Delete from here on")
    expect(page).to_have_url(re.compile(r"/$"))
    expect(page.get_by_role("link", name="The only question here")).to_have_count(0)


def test_the_prompt_view_shows_every_token_that_the_model_read(open_page: Open) -> None:
    page = open_page()
    ask(page, "What do you read?")
    choose_for(page, answers(page), "Show the prompt")
    panel = page.get_by_role("dialog", name="Prompt")
    expect(panel).to_contain_text("What do you read?")
    expect(panel.get_by_text(re.compile(r"^\d+ of 16384 tokens"))).to_be_visible()
    template = panel.locator("[data-added]").all_inner_texts()
    assert any("Response" in text for text in template)
    panel.get_by_role("radio", name="Text").click()
    expect(panel).to_contain_text("### Response:")
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(answers(page).get_by_role("button", name="More")).to_be_focused()
