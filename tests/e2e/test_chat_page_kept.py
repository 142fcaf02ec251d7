"""Nothing that a reader wrote or was answered is lost: reloads, two tabs, refusals, a server that is killed."""

import re
import time

import httpx
import pytest

from .page import Open, Page, answers, ask, conversations, expect, send, wait_for_answer

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ENDLESS = {"max_tokens": 16_000}


def text_of(page: Page) -> str:
    return answers(page).last.locator(".prose-calm").inner_text().strip()


def stored(page: Page, server) -> list[dict]:
    conversation = httpx.URL(page.url).path.removeprefix("/c/")
    return httpx.get(f"{server.base}/v1/conversations/{conversation}").json()["messages"]


def test_a_draft_and_a_refused_message_are_there_after_a_reload_in_their_conversation(open_page: Open) -> None:
    page = open_page()
    box = page.get_by_role("textbox", name="Message")
    box.fill("Only begun")
    page.reload()
    expect(box).to_have_value("Only begun")
    box.fill("Far too long " + "a " * 18_000)
    page.keyboard.press("Enter")
    expect(page.get_by_role("log").get_by_role("alert")).to_be_visible()
    expect(page.get_by_text(re.compile(r"has 18,\d{3} tokens, and 16,3\d\d fit beside the 24 kept"))).to_have_count(1)
    address = page.url
    page.reload()
    expect(page.get_by_role("log")).to_contain_text("Far too long")
    expect(page.get_by_role("log").get_by_role("alert")).to_be_visible()
    page.goto("/")
    conversations(page).filter(has_text="Far too long").click()
    expect(page).to_have_url(address)
    page.goto("/c/never-stored")
    expect(page.get_by_role("alert")).to_contain_text("never stored")
    expect(page.get_by_role("alert")).not_to_contain_text("key")


def test_an_answer_goes_on_after_a_reload_and_in_a_second_tab_and_any_tab_stops_it(open_page: Open, server) -> None:
    page = open_page(sampling=ENDLESS)
    send(page, "Go on through a reload")
    expect(answers(page).locator(".prose-calm")).not_to_be_empty()
    second = page.context.new_page()
    second.goto(page.url)
    expect(second.get_by_role("button", name="Stop")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    for each in (page, second):
        wait_for_answer(each)
        expect(each.get_by_text("Stopped", exact=True)).to_be_visible()
        expect(answers(each)).to_have_count(1)
        expect(answers(each).get_by_text(re.compile("tokens/s"))).to_be_visible()
    assert text_of(page) == text_of(second)
    assert [message["role"] for message in stored(page, server)] == ["user", "assistant"]


def test_a_second_tab_shows_turns_titles_and_speeds_of_the_first_and_a_branch_outlives_a_reload(
    open_page: Open, server
) -> None:
    page = open_page()
    ask(page, "The first turn")
    second = page.context.new_page()
    second.goto(page.url)
    wait_for_answer(second)
    ask(page, "The second turn")
    expect(second.get_by_role("log")).to_contain_text("The second turn")
    expect(answers(second)).to_have_count(2)
    wait_for_answer(second)
    speed = re.compile(r"tokens/s")
    told = answers(page).last.get_by_text(speed).inner_text()
    assert answers(second).last.get_by_text(speed).inner_text() == told
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_text("2 of 2")).to_be_attached()
    wait_for_answer(page)
    page.get_by_role("button", name="Previous version").click()
    expect(page.get_by_text("1 of 2")).to_be_attached()
    page.reload()
    expect(page.get_by_text("1 of 2")).to_be_attached()
    assert answers(page).last.get_by_text(speed).inner_text() == told


@pytest.mark.slow
def test_a_killed_server_costs_nothing_of_what_had_come_and_what_is_sent_meanwhile_is_sent_when_it_is_back(
    open_page: Open, server
) -> None:
    page = open_page(sampling=ENDLESS)
    idle = open_page()
    send(page, "An answer that is cut")
    expect(answers(page).locator(".prose-calm")).to_contain_text(re.compile(r".{40}", re.DOTALL))
    banner = idle.get_by_text("The server does not answer", exact=False)
    killed = time.monotonic()
    server.kill()
    expect(banner).to_be_visible(timeout=10_000)
    seconds = time.monotonic() - killed
    expect(page.get_by_role("button", name="Continue")).to_be_visible()
    begun = text_of(page)
    for each, text in ((page, "Held in an old one"), (idle, "Held in a new one")):
        expect(each.get_by_role("button", name="Search: Auto")).to_be_visible()
        send(each, text)
        expect(each.get_by_text("Held back", exact=False)).to_be_visible()
        expect(each.locator("[data-sonner-toast]")).to_have_count(0)
    server.start()
    for each in (page, idle):
        expect(each.get_by_text("Held back", exact=False)).to_have_count(0)
    wait_for_answer(idle)
    assert stored(idle, server)[0]["content"] == "Held in a new one"
    expect(answers(page).last.locator(".prose-calm")).to_contain_text(re.compile(r".{40}", re.DOTALL))
    page.get_by_role("button", name="Stop").click()
    wait_for_answer(page)
    turns = stored(page, server)
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2
    assert [turn["parent_id"] for turn in turns] == [None, *(turn["id"] for turn in turns[:-1])]
    server.kill()
    server.start()
    page.reload()
    expect(answers(page)).to_have_count(2)
    expect(page.get_by_role("log")).to_contain_text("Held in an old one")
    expect(page.get_by_text(re.compile(r"\d of \d"))).to_have_count(0)
    expect(answers(page).first.locator(".prose-calm")).to_have_text(begun)
    assert seconds < 3, seconds
