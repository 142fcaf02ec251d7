"""The list of conversations: search, links, import and export, deletion."""

import json
import re
from pathlib import Path

import httpx
import pytest

from .page import NARROW, Open, Page, ask, choose, conversations, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def test_a_conversation_is_found_renamed_deleted_and_brought_back(open_page: Open) -> None:
    page = open_page()
    ask(page, "Zebras and quaggas")
    links = page.get_by_role("navigation", name="Conversations").get_by_role("link")
    page.get_by_role("searchbox", name="Search conversations").fill("quagga")
    expect(links).to_have_count(1)
    page.get_by_role("button", name="Actions for Zebras and quaggas").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_role("textbox", name="New title").fill("Striped animals")
    page.keyboard.press("Enter")
    expect(links).to_have_text("Striped animals")
    page.get_by_role("button", name="Actions for Striped animals").click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(links).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(links).to_have_text("Striped animals")


def test_a_search_in_the_sidebar_shows_the_passage_with_its_words_marked(open_page: Open) -> None:
    page = open_page()
    ask(page, "Of all the animals that live in the Okavango delta I like the sitatunga best")
    page.get_by_role("searchbox", name="Search conversations").fill("SITATUNGA")
    expect(conversations(page)).to_have_count(1)
    passage = page.get_by_role("navigation", name="Conversations").locator("mark")
    expect(passage).to_have_text("sitatunga")
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox", name="Search conversations")).to_have_value("")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Commands").fill("sitatunga")
    expect(page.get_by_role("option").locator("mark")).to_have_text("sitatunga")


def long_talk(folder: Path, animal: str) -> Path:
    """A file with a talk of ten questions and answers, the second of which are about an animal."""
    others, these = "A long story of many things. " * 30, f"I like the {animal} best. " + "It lives in woods. " * 30
    turns = [
        {"role": role, "content": text} for text in (others, these, *[others] * 8) for role in ("user", "assistant")
    ]
    file = folder / f"{animal}.jsonl"
    file.write_text(json.dumps({"messages": turns}) + "\n")
    return file


def test_what_a_search_found_is_shown_where_it_stands(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    bring_in(page, long_talk(tmp_path, "bongo"))
    page.get_by_role("searchbox", name="Search conversations").fill("bongo")
    expect(conversations(page)).to_have_count(1)
    conversations(page).click()
    expect(page.locator("article:focus")).to_be_in_viewport()
    expect(page.locator("article:focus")).to_contain_text("bongo")
    page.reload()
    expect(page.locator("article:focus")).to_be_in_viewport()
    page.get_by_role("button", name="Scroll to the newest message").click()
    expect(page.get_by_role("article").last).to_be_in_viewport()


def test_a_link_to_a_message_leads_there_again_and_is_left_by_sending(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    bring_in(page, long_talk(tmp_path, "okapi"))
    page.get_by_role("searchbox", name="Search conversations").fill("okapi")
    expect(conversations(page)).to_have_count(1)
    conversations(page).click()
    expect(page.locator("article:focus")).to_be_in_viewport()
    page.get_by_role("button", name="Scroll to the newest message").click()
    expect(page.get_by_role("article").last).to_be_in_viewport()
    conversations(page).click()
    expect(page.locator("article:focus")).to_be_in_viewport()
    ask(page, "And the newest?")
    expect(page).to_have_url(re.compile(r"/c/[^#]+$"))
    page.reload()
    expect(page.get_by_role("article").last).to_be_in_viewport()


def test_older_conversations_come_as_one_scrolls_to_them(open_page: Open, tmp_path: Path) -> None:
    page = open_page()
    file = tmp_path / "many.jsonl"
    talks = [{"messages": [{"role": "user", "content": f"Scroll {n}"}]} for n in range(100)]
    file.write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    bring_in(page, file)
    with page.expect_response(lambda response: "q=Scroll" in response.url):  # what it finds replaces the list
        page.get_by_role("searchbox", name="Search conversations").fill("Scroll")
    for _ in range(2):
        page.wait_for_timeout(500)
        conversations(page).last.scroll_into_view_if_needed()
        page.get_by_role("navigation", name="Conversations").hover()
        page.mouse.wheel(0, 10_000)
    expect(conversations(page)).to_have_count(100)
    expect(page.get_by_role("button", name="Show older")).to_have_count(0)


@pytest.mark.slow  # the time to undo runs out three times
def test_conversations_deleted_one_after_another_do_not_come_back(open_page: Open) -> None:
    page = open_page()
    for name in ("Gone first", "Gone second"):
        page.get_by_role("button", name="New chat").first.click()
        ask(page, name)
    for name in ("Gone first", "Gone second"):
        conversations(page).filter(has_text=name).hover()
        choose(page, f"Actions for {name}", "Delete")
        page.wait_for_timeout(2_500)
    seen = "[...document.querySelectorAll('nav a')].some(a => a.textContent.startsWith('Gone '))"
    page.evaluate(f"window.back = 0; setInterval(() => window.back += {seen}, 50)")
    page.wait_for_timeout(6_500)
    assert page.evaluate("window.back") == 0
    page.reload()
    expect(conversations(page).filter(has_text="Gone")).to_have_count(0)


def bring_in(page: Page, file: Path) -> dict[str, int]:
    with page.expect_response("**/v1/conversations.jsonl") as answer:
        page.get_by_label("Import a file").set_input_files(file)
    return answer.value.json()


def test_training_data_and_the_pages_own_export_come_in_again(open_page: Open, server, tmp_path: Path) -> None:
    examples = tmp_path / "examples.jsonl"
    turns = [{"role": "user", "content": "Name a quokka."}, {"role": "assistant", "content": "Gino."}]
    examples.write_text(json.dumps({"messages": turns}) + "\n")
    page = open_page()
    assert bring_in(page, examples)["imported"] == 1
    expect(page.get_by_text("1 imported", exact=True)).to_be_visible()
    conversations(page).filter(has_text="Name a quokka.").click()
    expect(page.get_by_role("log")).to_contain_text("Gino.")
    address = httpx.URL(page.url).path
    with page.expect_download() as found:
        page.get_by_role("button", name="Actions for Name a quokka.").click()
        page.get_by_role("menuitem", name="JSON", exact=True).click()
    exported = tmp_path / "exported.json"
    found.value.save_as(exported)
    httpx.delete(f"{server.base}/v1/conversations/{address.removeprefix('/c/')}").raise_for_status()
    assert bring_in(page, exported)["imported"] == 1
    assert bring_in(page, exported) == {"imported": 0, "skipped": 1}
    expect(page.get_by_text("0 imported, 1 there already")).to_be_visible()
    expect(open_page(address).get_by_role("log")).to_contain_text("Gino.")


def test_a_file_that_is_none_is_refused_with_its_line(open_page: Open, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"messages": [{"role": "user", "content": "x"}]}\n{"not": "one"}\n')
    page = open_page()
    page.get_by_label("Import a file").set_input_files(wrong)
    expect(page.get_by_text(re.compile("Line 2 is no conversation"))).to_be_visible()


def test_all_conversations_go_once_it_has_been_confirmed(open_page: Open) -> None:
    page = open_page()
    ask(page, "Not for long")
    choose(page, "Actions for all conversations", "Delete all")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Actions for all conversations")).to_be_focused()
    choose(page, "Actions for all conversations", "Delete all")
    page.get_by_role("dialog").get_by_role("button", name="Delete all").click()
    expect(conversations(page)).to_have_count(0)
    expect(page).to_have_url(re.compile(r"/$"))


def test_in_the_drawer_a_deletion_can_be_undone_and_escape_clears_the_search_first(open_page: Open) -> None:
    page = open_page(**NARROW)
    ask(page, "Narrow and deep")
    page.get_by_role("button", name="Open sidebar").click()
    drawer = page.get_by_role("dialog", name="Conversations")
    choose(page, "Actions for Narrow and deep", "Delete")
    expect(conversations(page).filter(has_text="Narrow and deep")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(conversations(page).filter(has_text="Narrow and deep")).to_have_count(1)
    page.get_by_role("searchbox", name="Search conversations").fill("nothing like it")
    page.keyboard.press("Escape")
    expect(page.get_by_role("searchbox", name="Search conversations")).to_have_value("")
    expect(drawer).to_be_visible()
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
