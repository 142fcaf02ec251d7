"""What stands around the talk: votes, corrections, the model picker, settings, API keys."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from .page import Open, Page, ask, choose, conversations, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def download(page: Page, item: str) -> Path:
    with page.expect_download() as found:
        choose(page, "Actions for all conversations", item)
    return found.value.path()


def test_a_corrected_answer_comes_out_as_training_data(open_page: Open) -> None:
    page = open_page()
    ask(page, "Correct me")
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_role("textbox", name="A better answer").fill("As it should be.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("This is kept", exact=False)).to_be_visible()
    lines = download(page, "Rated answers for training").read_text().splitlines()
    found = next(json.loads(line) for line in lines if "Correct me" in line)
    assert [turn["content"] for turn in found["messages"]] == ["Correct me", "As it should be."]
    preferred = [json.loads(line) for line in download(page, "Votes and corrections").read_text().splitlines()]
    assert any(row["chosen"][0]["content"] == "As it should be." for row in preferred)


def test_a_vote_is_kept_on_the_server_and_can_be_taken_back(open_page: Open, server) -> None:
    page = open_page("/?mode=compare", sampling={"max_tokens": 23})  # a pair that no other test votes on
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
    def enter(key: str) -> Page:
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
