"""Where an answer came from, on the page."""

import shutil

import numpy as np
import pytest

from resonance import Checkpoint
from resonance.influence.index import FOLDER, VERSION, IndexWriter, Record

from .page import Open, answers, ask, check_accessibility, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]
SIDE = 8


def test_an_answer_shows_the_training_examples_it_is_near_to(server, open_page: Open) -> None:
    tiny = Checkpoint.open(server.folder / "runs" / "tiny")
    shutil.rmtree(tiny.folder / FOLDER, ignore_errors=True)  # of the try before
    page = open_page()
    ask(page, "Cold or hot?")

    def look() -> None:
        answers(page).last.get_by_role("button", name="More").click()
        page.get_by_role("menuitem", name="Where did this come from?").click()

    look()
    sheet = page.get_by_role("dialog", name="Where did this come from?")
    expect(sheet.get_by_role("alert")).to_contain_text("tiny has no index of its training examples")
    page.keyboard.press("Escape")

    plain = {"kind": "example", "prompt": "Up or down?", "answer": "Down.", "provenance": None}
    other = {"kind": "correction", "prompt": "secret", "answer": "secret", "provenance": {"owner_id": "ann"}}
    writer = IndexWriter(
        tiny.folder / FOLDER, Record(VERSION, tiny.crc32, "", "the last block", SIDE, 9, 2), [plain, other]
    )
    writer.add(range(2), np.random.default_rng(0).normal(size=(2, SIDE**2)).astype(np.float32))
    writer.save()
    look()
    expect(sheet.get_by_text("Up or down?")).to_be_visible()
    expect(sheet.get_by_text("Down.", exact=True)).to_be_visible()
    expect(sheet.get_by_text("Somebody else's judgement")).to_be_visible()
    expect(sheet.get_by_text("2 of 9 training examples compared")).to_be_visible()
    expect(sheet.get_by_text("secret")).to_have_count(0)
    check_accessibility(page, "where an answer came from")
