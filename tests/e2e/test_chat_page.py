"""Talking on the built page in a real Chromium, against a real server with tiny random checkpoints."""

import re
import time

import httpx
import pytest

from .page import Open, answers, ask, expect, send, wait_for_answer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

LONG = {"max_tokens": 1900}


def test_a_message_is_answered_and_both_are_there_after_a_reload(open_page: Open) -> None:
    page = open_page()
    ask(page, "Tell me of the sea")
    assert re.search(r"/c/[0-9a-f-]{36}$", page.url)
    expect(answers(page)).not_to_have_text("")
    expect(
        page.get_by_role("navigation", name="Conversations").get_by_role("link", name="Tell me of the sea")
    ).to_be_visible()
    page.reload()
    expect(page.get_by_role("log").locator("article[data-role=user]")).to_contain_text("Tell me of the sea")
    expect(answers(page)).to_have_count(1)


def test_another_browser_sees_the_conversation_at_its_address(open_page: Open) -> None:
    page = open_page()
    ask(page, "A question to share")
    path = httpx.URL(page.url).path
    expect(open_page(path).get_by_role("log").get_by_role("article").first).to_contain_text("A question to share")


def test_a_double_click_stops_or_sends_and_never_does_both(open_page: Open) -> None:
    page = open_page(sampling={"max_tokens": 12_000})
    field = page.get_by_role("textbox", name="Message")
    field.fill("Go on for long")
    page.get_by_role("button", name="Send").dblclick()
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_visible()
    expect(answers(page)).to_have_text(re.compile(".{20}", re.DOTALL))
    field.fill("Not yet")
    page.wait_for_timeout(600)  # longer than a double click
    stop.dblclick()
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    expect(field).to_have_value("Not yet")
    expect(answers(page)).to_have_count(1)


def test_stop_ends_the_decoding_and_keeps_what_has_come(open_page: Open, server) -> None:
    page = open_page(sampling=LONG)
    send(page, "Go on for long")
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "true")
    expect(answers(page)).to_have_text(re.compile(".{20}", re.DOTALL))
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    end = time.monotonic() + 5
    while server.metric("resonance_active_requests") and time.monotonic() < end:
        time.sleep(0.05)
    assert server.metric("resonance_active_requests") == 0
    page.reload()
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    assert len(answers(page).inner_text()) > 20


def test_regenerate_keeps_the_first_answer_beside_the_second(open_page: Open) -> None:
    page = open_page(sampling={"temperature": 1, "seed": None})
    ask(page, "Say something")
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_text("2 of 2")).to_be_attached()
    wait_for_answer(page)
    page.reload()
    expect(page.get_by_text("2 of 2")).to_be_attached()
    page.get_by_role("button", name="Previous version").click()
    expect(page.get_by_text("1 of 2")).to_be_attached()


def test_an_edited_question_opens_a_branch_that_one_can_leave_again(open_page: Open) -> None:
    page = open_page()
    ask(page, "The first wording")
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox", name="Edited text").fill("The second wording")
    page.keyboard.press("Enter")
    question = page.get_by_role("log").locator("article[data-role=user]")
    expect(question).to_contain_text("The second wording")
    wait_for_answer(page)
    page.reload()
    expect(question).to_contain_text("The second wording")
    question.hover()
    page.get_by_role("button", name="Previous version").click()
    expect(question).to_contain_text("The first wording")


def test_the_token_view_shows_what_else_was_likely(open_page: Open) -> None:
    page = open_page(settings={"tokenView": True})
    ask(page, "Colour this")
    tokens = page.get_by_role("toolbar", name="Probability of each token").get_by_role("button")
    assert tokens.count() >= 20
    tokens.nth(1).click()
    expect(page.get_by_role("dialog", name="What else was likely").get_by_role("listitem")).to_have_count(5)


def test_two_checkpoints_answer_side_by_side(open_page: Open) -> None:
    page = open_page("/?mode=compare")
    page.get_by_role("region", name="Side B").get_by_role("combobox", name="Model").select_option("other")
    page.get_by_role("textbox", name="Prompt for both").fill("Compare yourselves")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="B is better").click()
    expect(page.get_by_text("So far: A 0, B 1, equal 0")).to_be_visible()


def test_raw_text_goes_on_and_forks_at_a_token(open_page: Open) -> None:
    page = open_page("/?mode=complete")
    page.get_by_role("textbox", name="Text to continue").fill("Below the cliff")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("button", name="Edit the text")).to_be_visible()
    page.get_by_role("toolbar").get_by_role("button").nth(3).click()
    page.get_by_role("button", name=re.compile("^Go on with")).last.click()
    expect(page.get_by_role("button", name="Edit the text")).to_be_visible()


def test_the_theme_changes_and_is_remembered(open_page: Open) -> None:
    page = open_page(color_scheme="light")
    html = page.locator("html")
    expect(html).not_to_have_class(re.compile("dark"))
    page.get_by_role("button", name="Theme").click()
    expect(html).to_have_class(re.compile("dark"))
    page.reload()
    expect(html).to_have_class(re.compile("dark"))


@pytest.mark.slow
def test_a_server_that_dies_in_mid_answer_is_told_of_and_taken_up_again(open_page: Open, server) -> None:
    page = open_page(sampling=LONG)
    send(page, "The last words")
    expect(answers(page)).to_have_text(re.compile(".{20}", re.DOTALL))
    server.kill()
    expect(page.get_by_text("The server does not answer", exact=False)).to_be_visible()
    expect(page.get_by_role("alert")).to_be_visible()
    assert len(answers(page).inner_text()) > 20
    server.start()
    expect(page.get_by_text("The server does not answer", exact=False)).to_be_hidden()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "true")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("log")).to_contain_text("The last words")
