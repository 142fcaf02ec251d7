"""The closed loop on the page: consent, what was learned from a reader, and a new model in service."""

from pathlib import Path

import pytest

from tests.improved import BETTER, improve

from .page import Open, Page, ask, check_accessibility, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
FIRST, SECOND = "improve-20260102-000000", "improve-20260103-000000"


@pytest.fixture
def made(learning, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """The folder of the runs and the store that the server uses."""
    monkeypatch.setenv("RESONANCE_HOME", str(learning.folder / "home"))
    return learning.folder / "runs", f"sqlite:///{learning.folder / 'home' / 'conversations.sqlite'}"


def correct(page: Page, question: str, answer: str) -> None:
    page.goto("/")
    ask(page, question)
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_role("textbox", name="A better answer").fill(answer)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("This is kept", exact=False)).to_be_visible()


def test_a_reader_is_asked_once_learned_from_and_withdraws(learning, open_page: Open, made: tuple[Path, str]) -> None:
    page = open_page(base_url=learning.base)
    correct(page, "Cold or hot?", "Hot.")
    question = page.get_by_text("May your conversations help to train the next model?")
    expect(question).to_be_visible()
    assert improve(*made, "improve-20260101-000000", like="other", promoted=False) == []  # nothing before the yes
    page.get_by_role("button", name="Yes", exact=True).click()
    expect(question).to_have_count(0)
    correct(page, "Up or down?", "Down.")
    page.wait_for_timeout(500)
    expect(question).to_have_count(0)

    # A new model comes into service while the page is open.
    exported = improve(*made, FIRST, like="other")
    assert {line["messages"][-1]["content"] for line in exported if line["kind"] == "example"} == {"Hot.", "Down."}
    expect(page.get_by_text(f"A new model is in service: production is {FIRST} now.")).to_be_visible()
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_text("A new model is in service", exact=False)).to_have_count(0)
    page.get_by_role("button", name="Model: production").click()
    item = page.get_by_role("menuitemradio", name="production")
    expect(item).to_contain_text("Trained from")
    expect(item).to_contain_text("Judgements")
    expect(item).to_contain_text(BETTER)
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Settings").click()
    switch = page.get_by_role("switch", name="Train on my judgements")
    expect(switch).to_be_checked()
    page.get_by_role("button", name="What I learned from you").click()
    panel = page.get_by_role("dialog", name="What I learned from you")
    expect(panel.get_by_text("2 of its 2 judgements are yours")).to_be_visible()
    expect(panel.get_by_text(f"{FIRST}: trained on it")).to_have_count(2)
    check_accessibility(page, "what was learned")
    panel.get_by_role("button", name="Withdraw: Cold or hot?").click()
    expect(page.get_by_text(f"{FIRST} keeps what it learned from it.", exact=False)).to_be_visible()
    former = panel.get_by_role("region", name="Withdrawn or changed, and still in a model")
    expect(former.get_by_text("Correction: Hot.")).to_be_visible()

    # The next data set is without it; what is held out shows what changed.
    exported = improve(*made, SECOND, like="tiny", test=0.999)
    assert {line["messages"][-1]["content"] for line in exported if line["kind"] == "example"} == {"Down."}
    page.reload()
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("button", name="What I learned from you").click()
    expect(former.get_by_text(f"{SECOND}: trained from a model that has it", exact=False)).to_be_visible()
    panel.get_by_text("Your questions, before and after: 1").click()
    expect(panel.get_by_text("no idea")).to_be_visible()
    expect(panel.get_by_text("After, right")).to_be_visible()

    # The consent is taken back in the settings: nothing is in the next data set.
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Settings").click()
    switch.click()
    expect(page.get_by_text("Nothing you write or judge is used for training.")).to_be_visible()
    assert improve(*made, "improve-20260104-000000", like="other", promoted=False) == []

    # A German reader finds the same in German.
    german = open_page(base_url=learning.base, locale="de-DE")
    german.get_by_role("button", name="Einstellungen").click()
    expect(german.get_by_role("switch", name="Mit meinen Urteilen trainieren")).not_to_be_checked()
    expect(german.get_by_text("Nichts, was du schreibst oder beurteilst, wird zum Training verwendet.")).to_be_visible()
    german.get_by_role("button", name="Was ich von dir gelernt habe").click()
    expect(german.get_by_text(f"{FIRST}: damit trainiert", exact=False).first).to_be_visible()
