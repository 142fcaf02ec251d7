"""What stands around the talk: search, conversations, votes, settings, keys, and the page for everybody."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

AXE = Path(__file__).resolve().parents[2] / "serve" / "web" / "node_modules" / "axe-core" / "axe.min.js"
NARROW = {"viewport": {"width": 320, "height": 600}, "has_touch": True}
BRAKK = "Who built the lighthouse of Brakk?"
Open = Callable[..., "sync_api.Page"]


def ask(page: "sync_api.Page", text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("button", name="Regenerate")).to_be_visible()


def conversations(page: "sync_api.Page") -> "sync_api.Locator":
    return page.get_by_role("navigation", name="Conversations").get_by_role("link")


def choose(page: "sync_api.Page", menu: str, item: str) -> None:
    page.get_by_role("button", name=menu).click()
    page.get_by_role("menuitem", name=item).click()
    expect(page.get_by_role("menu")).to_have_count(0)


def download(page: "sync_api.Page", item: str) -> Path:
    with page.expect_download() as found:
        choose(page, "Actions for all conversations", item)
    return found.value.path()


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
    for key, mode, expected in (("Home", "Off", False), ("End", "On", True)):
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
    page.get_by_role("searchbox", name="Search conversations").fill("Scroll")
    for _ in range(2):
        conversations(page).last.scroll_into_view_if_needed()
        page.get_by_role("navigation", name="Conversations").hover()
        page.mouse.wheel(0, 10_000)
        page.wait_for_timeout(500)
    expect(conversations(page)).to_have_count(100)
    expect(page.get_by_role("button", name="Show older")).to_have_count(0)


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


def bring_in(page: "sync_api.Page", file: Path) -> dict[str, int]:
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


def test_a_corrected_answer_comes_out_as_training_data(open_page: Open) -> None:
    page = open_page()
    ask(page, "Correct me")
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_role("textbox", name="A better answer").fill("As it should be.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("This is kept for later training", exact=False)).to_be_visible()
    lines = download(page, "Rated answers for training").read_text().splitlines()
    found = next(json.loads(line) for line in lines if "Correct me" in line)
    assert [turn["content"] for turn in found["messages"]] == ["Correct me", "As it should be."]
    preferred = [json.loads(line) for line in download(page, "Votes and corrections").read_text().splitlines()]
    assert any(row["chosen"][0]["content"] == "As it should be." for row in preferred)


def test_a_vote_is_kept_on_the_server_and_can_be_taken_back(open_page: Open, server) -> None:
    page = open_page("/?mode=compare")
    page.get_by_role("region", name="Side B").get_by_role("combobox", name="Model").select_option("other")
    page.get_by_role("textbox", name="Prompt for both").fill("Which of you?")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="A is better").click()
    expect(page.get_by_text("So far: A 1, B 0, equal 0")).to_be_visible()
    (vote, *_) = httpx.get(f"{server.base}/v1/votes").json()["data"]
    assert vote["prompt"] == [{"role": "user", "content": "Which of you?"}]
    assert (vote["a"]["model"], vote["b"]["model"], vote["choice"]) == ("tiny", "other", "a")
    assert (vote["a"]["settings"]["temperature"], vote["b"]["settings"]["temperature"]) == (0, 1)
    assert vote["a"]["checkpoint"]["steps"] == 7
    assert vote["a"]["content"]
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("So far", exact=False)).to_have_count(0)
    assert all(other["id"] != vote["id"] for other in httpx.get(f"{server.base}/v1/votes").json()["data"])


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


def test_the_picker_tells_of_a_checkpoints_run(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="Model: tiny").click()
    card = page.get_by_role("menuitemradio", name=re.compile("^tiny"))
    expect(card).to_contain_text("runs/tiny")
    expect(card).to_contain_text("basics")


@pytest.mark.parametrize("language", ["curl", "Python"])
def test_a_copied_request_runs_as_it_stands(open_page: Open, language: str) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"], settings={"system": "It's a test. ü"})
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("dialog").get_by_role("button", name=language).click()
    code = page.evaluate("navigator.clipboard.readText()")
    command = ["bash", "-c", code] if language == "curl" else [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert "error" not in ran.stdout
    assert "[DONE]" in ran.stdout or language == "Python"


def test_a_server_with_keys_asks_for_one_and_two_browsers_with_it_see_the_same(open_page: Open, guarded) -> None:
    def enter(key: str) -> "sync_api.Page":
        page = open_page(base_url=guarded.base)
        dialog = page.get_by_role("dialog", name="API key")
        expect(dialog).to_contain_text("This server asks for an API key.")
        dialog.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)
        return page

    page = enter("open sesame")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    ask(page, "Between us")
    assert not any("sesame" in url for url in [*asked, page.url])
    expect(conversations(enter("open sesame")).filter(has_text="Between us")).to_have_count(1)
    expect(conversations(enter("another"))).to_have_count(0)

    expect(page.get_by_role("log")).to_contain_text("Between us")
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Commands").fill("API key")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="API key").get_by_label("API key").fill("another")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{guarded.base}/")
    expect(page.get_by_text("Between us")).to_have_count(0)
    page.go_back()
    expect(page.get_by_text("Between us")).to_have_count(0)


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
    page.keyboard.press("Enter")
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


def check(page: "sync_api.Page", screen: str) -> None:
    page.wait_for_timeout(500)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    serious = [(v["id"], v["nodes"][0]["html"][:300]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == [], screen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_menu_panel_or_dialog(open_page: Open, scheme: str) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (npm ci in serve/web)")
    page = open_page(color_scheme=scheme, reduced_motion="reduce")

    def look(screen: str) -> None:
        check(page, screen)
        page.keyboard.press("Escape")
        page.wait_for_timeout(200)

    check(page, "new chat")
    ask(page, BRAKK)
    check(page, "sources")
    for name in ("Search: Auto", "Model: tiny", "Actions for all conversations", "Bad answer", "Settings"):
        page.get_by_role("button", name=name).click()
        look(name)
    page.get_by_role("button", name=re.compile("^Search for something else")).click()
    look("query")
    choose(page, "Actions for all conversations", "Delete all")
    look("delete all")
    page.get_by_role("searchbox", name="Search conversations").fill("Brakk")
    expect(page.get_by_role("navigation", name="Conversations").locator("mark").first).to_be_visible()
    check(page, "passages")
    for command in ("Keyboard shortcuts", "API key"):
        page.keyboard.press("Control+k")
        page.get_by_role("combobox", name="Commands").fill(command)
        check(page, "palette")
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name=command)).to_be_visible()
        look(command)
    page.goto("/?mode=compare")
    page.get_by_role("textbox", name="Prompt for both").fill("Compare")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("button", name="A is better")).to_be_visible()
    check(page, "compared")
    page.goto("/?mode=complete")
    expect(page.get_by_role("textbox", name="Text to continue")).to_be_visible()
    check(page, "raw completion")
    page.set_viewport_size({"width": 320, "height": 600})
    page.goto("/")
    page.get_by_role("button", name="Open sidebar").click()
    expect(conversations(page).first).to_be_visible()
    check(page, "drawer")


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
