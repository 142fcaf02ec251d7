"""What readers set, and the page's figures: they reach the request, and survive a reload."""

import json
import re
from collections.abc import Callable

import pytest

from .page import Open, Page, answers, ask, choose, conversations, expect, send

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SCHEMA = '{"type": "object", "properties": {"name": {"enum": ["Brakk"]}}, "required": ["name"]}'


def sent_by(page: Page, do: Callable[[], object]) -> dict:
    with page.expect_request("**/v1/chat/stream") as sent:
        do()
    return json.loads(sent.value.post_data or "")


def settings(page: Page, name: str = "Settings"):
    page.get_by_role("button", name=name).click()
    return page.get_by_role("dialog", name=name)


def test_settings_reach_the_request_survive_a_reload_and_belong_to_their_conversation(open_page: Open):
    page = open_page(sampling={"seed": None, "max_tokens": 40})
    sheet = settings(page)
    for slider, key in (("Min p", "ArrowRight"), ("Repetition penalty", "End")):
        sheet.get_by_role("slider", name=slider).focus()
        page.keyboard.press(key)
    sheet.get_by_label("Seed").fill("12a3")
    sheet.get_by_label("Stop at").fill("END\n\\n\\n")
    sheet.get_by_role("radio", name="Schema").click()
    sheet.get_by_label("JSON schema").fill(SCHEMA)
    page.keyboard.press("Escape")
    page.reload()
    body = sent_by(page, lambda: ask(page, "Name a place"))
    assert {name: body[name] for name in ("min_p", "repetition_penalty", "seed", "stop")} == {
        "min_p": 0.01,
        "repetition_penalty": 2,
        "seed": 123,
        "stop": ["END", "\n\n"],
    }
    assert body["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
    assert json.loads(answers(page).locator(".prose-calm").inner_text()) == {"name": "Brakk"}
    first = page.url
    settings(page).get_by_label("System prompt of this chat").fill("Only here")
    page.get_by_role("dialog").get_by_role("button", name="Reset").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Model: tiny").click()
    page.get_by_role("menuitemradio", name=re.compile("^other")).click()
    page.reload()
    body = sent_by(page, lambda: ask(page, "And here?"))
    assert (body["model"], body["messages"][0]) == ("other", {"role": "system", "content": "Only here"})
    assert not {"min_p", "temperature", "max_tokens", "stop", "response_format", "seed"} & body.keys()
    page.goto("/")
    body = sent_by(page, lambda: send(page, "Elsewhere"))
    assert body["messages"] == [{"role": "user", "content": "Elsewhere"}]
    assert body.get("model") in (None, "tiny")
    page.goto(first)
    expect(page.get_by_role("button", name="Model: other")).to_be_visible()


def test_a_large_paste_is_folded_its_tokens_are_counted_and_too_long_is_said_in_german_figures(open_page: Open):
    page = open_page(settings={"language": "de"}, permissions=["clipboard-read", "clipboard-write"])
    box = page.get_by_role("textbox", name="Nachricht")
    box.fill("Zähle mich")
    expect(page.get_by_text(re.compile(r"^\d Token$"))).to_be_visible()
    page.evaluate("navigator.clipboard.writeText('a '.repeat(18000))")
    box.focus()
    page.keyboard.press("Control+v")
    expect(page.get_by_role("list", name="Eingefügte Texte")).to_contain_text("36.000 Zeichen")
    expect(box).to_have_value("Zähle mich")
    expect(page.get_by_text(re.compile(r"^(18|36)\.\d{3} Token, 16\.3\d\d passen$"))).to_be_visible()
    page.reload()
    expect(page.get_by_role("list", name="Eingefügte Texte")).to_be_visible()
    page.goto("/?mode=compare")
    page.get_by_role("textbox", name="Eingabe für beide").fill("a " * 18_000)
    page.get_by_role("button", name="Starten").click()
    for side in ("Seite A", "Seite B"):
        alert = page.get_by_role("region", name=side).get_by_role("alert")
        expect(alert).to_have_text(re.compile(r"^Zu lang für das Kontextfenster: .* \d\d\.\d{3} Token"))
    expect(page.locator("[data-sonner-toast]")).to_have_count(0)


def test_figures_have_the_languages_decimal_sign_and_a_short_answer_has_no_speed(open_page: Open):
    page = open_page(settings={"language": "de"}, sampling={"temperature": 0.35})
    page.get_by_role("textbox", name="Nachricht").fill("Wie schnell?")
    page.keyboard.press("Enter")
    speed = answers(page).get_by_text(re.compile("Token/s"))
    expect(speed).to_have_text(re.compile(r" \d[\d.,]* Token/s · erstes Token nach 0(,\d+)? s"))
    sheet = settings(page, "Einstellungen")
    expect(sheet.get_by_text("0,35", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    short = open_page(sampling={"max_tokens": 7})
    ask(short, "Only seven")
    expect(answers(short).get_by_text(re.compile("tokens/s|first token"))).to_have_count(0)


def test_equal_questions_have_titles_of_their_own_and_a_chat_is_saved_as_one_file(open_page: Open):
    page = open_page()
    for _ in range(2):
        page.get_by_role("button", name="New chat").first.click()
        ask(page, "Is this a twin?")
    expect(conversations(page).filter(has_text="twin")).to_have_count(2)
    titles = conversations(page).filter(has_text="twin").all_inner_texts()
    assert len(set(titles)) == 2, titles
    with page.expect_download() as found:
        choose(page, f"Actions for {titles[0]}", "One HTML file")
    html = found.value.path().read_text()
    assert "Is this a twin?" in html
    assert not re.search(r"(src|href)=.https?:", html)
