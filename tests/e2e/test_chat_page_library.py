"""What readers keep and give away: documents, folders, links, temporary chats, judgements without names."""

import httpx
import pytest

from .conftest import Server
from .page import Open, answers, ask, check_accessibility, choose, conversations, expect

pytestmark = pytest.mark.browser
TOWER = {
    "name": "tower.md",
    "mimeType": "text/markdown",
    "buffer": b"# The tower of Ulm\n\nThe tower of Ulm was finished in 1890 and is 161 metres high.\n",
}
TITLE = "How high is the tower of Ulm?"


def test_a_document_is_attached_drawn_on_opened_at_its_passage_and_deleted(open_page: Open):
    page = open_page()
    page.get_by_label("Attach documents").last.set_input_files([TOWER])
    expect(page.get_by_role("button", name="Open tower.md")).to_be_visible()
    ask(page, TITLE)
    source = answers(page).get_by_role("list", name="Sources").get_by_role("link")
    expect(source).to_contain_text("The tower of Ulm")
    source.click()
    reader = page.get_by_role("dialog")
    expect(reader.locator("section[aria-current]")).to_contain_text("161 metres")
    check_accessibility(page, "a document")
    reader.get_by_role("button", name="Documents").click()
    expect(reader.get_by_role("region", name="Of a conversation")).to_contain_text("tower.md")
    check_accessibility(page, "the documents")
    bad = {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7 nothing"}
    page.get_by_label("Add to the library").last.set_input_files([bad])
    expect(page.get_by_text("a.pdf could not be added. There is no text in it that could be read.")).to_be_visible()
    reader.get_by_role("button", name="Delete tower.md").click()
    expect(reader.get_by_text("There are no documents yet.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Open tower.md")).to_have_count(0)


def test_a_conversation_is_pinned_foldered_archived_and_shared_until_its_link_is_revoked(
    open_page: Open, server: Server
):
    page = open_page()
    ask(page, "Shelve and share me")
    actions = "Actions for Shelve and share me"
    choose(page, actions, "Pin")
    pinned = page.locator("section", has=page.get_by_role("heading", name="Pinned")).get_by_role("link")
    expect(pinned).to_have_text(["Shelve and share me"])
    page.get_by_role("button", name=actions).click()
    page.get_by_role("menuitemradio", name="New folder…").click()
    page.get_by_role("textbox", name="Name of the folder").fill("Towers")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Shown conversations").click()
    page.get_by_role("menuitemradio", name="Towers").click()
    expect(conversations(page)).to_have_text(["Shelve and share me"])
    choose(page, actions, "Archive")
    page.get_by_role("button", name="Shown conversations").click()
    page.get_by_role("menuitemradio", name="Archive").click()
    expect(conversations(page)).to_have_text(["Shelve and share me"])
    choose(page, actions, "Share…")
    page.get_by_role("button", name="Create a link").click()
    check_accessibility(page, "sharing")
    link = page.get_by_role("textbox", name="Link").input_value()
    stranger = open_page(link.removeprefix(server.base))
    expect(stranger.get_by_role("heading", name="Shelve and share me")).to_be_visible()
    expect(stranger.locator("article")).to_have_count(2)
    expect(stranger.get_by_role("textbox")).to_have_count(0)
    check_accessibility(stranger, "a shared conversation")
    page.get_by_role("button", name="Revoke the link to Shelve and share me").click()
    expect(page.get_by_text("The link leads nowhere now.")).to_be_visible()
    stranger.reload()
    expect(stranger.get_by_role("alert")).to_have_text("This link has expired, was revoked, or never was.")


def test_a_temporary_chat_says_so_goes_on_from_what_was_said_and_is_stored_nowhere(open_page: Open, server: Server):
    before = httpx.get(f"{server.base}/v1/conversations").json()["data"]
    page = open_page()
    page.get_by_role("button", name="Temporary chat").click()
    expect(page.get_by_text("the server stores nothing of it")).to_be_visible()
    requests: list[dict] = []
    page.on("request", lambda request: request.url.endswith("/stream") and requests.append(request.post_data_json))
    ask(page, "Between us?")
    expect(answers(page)).to_have_count(1)
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("textbox", name="Edited text")).to_have_value("Between us?")
    page.keyboard.press("Escape")
    page.get_by_role("textbox", name="Message").focus()
    ask(page, "And this?")
    expect(answers(page)).to_have_count(2)
    assert [message["role"] for message in requests[-1]["messages"]] == ["user", "assistant", "user"]
    assert all("session_id" not in request for request in requests)
    assert httpx.get(f"{server.base}/v1/conversations").json()["data"] == before
    page.get_by_role("button", name="New chat").first.click()
    page.go_back()
    expect(page.get_by_text("the server stores nothing of it")).to_be_visible()
    expect(answers(page)).to_have_count(0)


def test_an_answer_is_given_again_by_another_model_wherever_it_stands(open_page: Open):
    page = open_page()
    ask(page, "First of two")
    ask(page, "Second of two")
    answers(page).first.hover()
    answers(page).first.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="other").click()
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")
    expect(answers(page)).to_have_count(1)
    expect(answers(page)).to_contain_text("2 of 2")
    assert answers(page).get_attribute("aria-label") == "other"


def test_blind_votes_over_several_turns_are_kept_as_judgements_of_one_prompt(open_page: Open, server: Server):
    page = open_page("/?mode=compare")
    page.get_by_role("button", name="Blind").click()
    for question in ("One?", "Two?"):
        page.get_by_role("textbox", name="Prompt for both").fill(question)
        page.keyboard.press("Enter")
        expect(page.get_by_role("combobox")).to_have_count(0)
        expect(page.get_by_role("main")).not_to_contain_text("T 0")
        page.get_by_role("button", name="B is better").click()
        expect(page.get_by_text("A was tiny (T")).to_be_visible()
    check_accessibility(page, "blind comparison")
    second, first = httpx.get(f"{server.base}/v1/votes?limit=2").json()["data"]
    assert [turn["content"] for turn in first["prompt"]] == ["One?"]
    assert [turn["content"] for turn in second["prompt"]] == ["One?", first["b"]["content"], "Two?"]
    assert {first["a"]["settings"]["temperature"], first["b"]["settings"]["temperature"]} == {0, 1}
