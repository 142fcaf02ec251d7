"""The report in a real Chromium: filter, search, theme, a narrow screen, accessibility; nothing in an answer runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.evaluate import Evaluation, Result
from eval.report.html import html_report
from resonance.paths import PROJECT_ROOT
from resonance.report.curves import Curve
from serve.web.scripts import chromium

from .reports import SPECS, quiz_record, report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.EXECUTABLE is None, reason="there is no Chromium on this machine"),
]

AXE = PROJECT_ROOT / "serve" / "web" / "node_modules" / "axe-core" / "axe.min.js"
ATTACK = "</script><script>window.attacked=1</script><img src=x onerror='window.attacked=1'>"
NARROW = {"width": 390, "height": 844}
PATIENCE = 20_000  # ms; the machine may be busy


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 100 items by two models; one answer attacks the page, another has a very long word."""
    ours, theirs = (_evaluation(label, each) for label, each in (("ours", 4), ("theirs", 3)))
    made = report(
        ours,
        theirs,
        curves=[Curve("train/loss", [(1, 9.0), (100, 0.1)]), Curve("lr", [(1, 0.0), (100, 0.1)])],
        provenance={"quiz": {"version": 1, "weights_sha256": "ab" * 32, "settings": {"max_new_tokens": 96}}},
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html_report(made), encoding="utf-8")
    return path


def _evaluation(label: str, each: int) -> Evaluation:
    """A hundred items, those wrong whose number `each` divides."""
    special = {8: ATTACK, 9: "w" * 500}
    records = (quiz_record(place, place % each > 0, answer=special.get(place)) for place in range(100))
    return Evaluation(label, "fp32", {"quiz": Result(SPECS, tuple(records))})


@pytest.fixture
def page(browser: "sync_api.Browser", path: Path) -> Iterator["sync_api.Page"]:
    """The open report; no test may leave an error in the console, ask for another file, or run what an answer says."""
    complaints: list[str] = []
    context = browser.new_context(color_scheme="light", viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text))
    page.on("request", lambda request: request.url == path.as_uri() or complaints.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert page.evaluate("window.attacked") is None
    assert complaints == []
    context.close()


def count(page: "sync_api.Page") -> "sync_api.Locator":
    return page.get_by_role("status")


def test_items_are_filtered_and_searched(page: "sync_api.Page") -> None:
    items = page.get_by_role("list", name="Items").get_by_role("article")
    expect(count(page)).to_have_text("100 of 100 items")
    page.get_by_label("Result").select_option("wrong")
    expect(count(page)).to_have_text("25 of 100 items")
    page.get_by_label("Family").select_option("sums")
    expect(count(page)).to_have_text("9 of 100 items")  # multiples of 12
    page.get_by_label("Search").fill("question 36")
    expect(items).to_have_count(1)
    expect(items.locator("mark").first).to_have_text("Question")
    page.get_by_label("Search").fill("question 37")  # not wrong
    expect(count(page)).to_have_text("0 of 100 items")
    page.get_by_role("button", name="Reset").click()
    expect(count(page)).to_have_text("100 of 100 items")
    page.get_by_label("Search").fill("window.attacked")
    expect(items).to_have_count(1)
    expect(items).to_contain_text(ATTACK)


def test_more_items_come_as_one_scrolls(page: "sync_api.Page") -> None:
    items = page.get_by_role("list", name="Items").get_by_role("article")
    expect(items).to_have_count(30)
    items.last.scroll_into_view_if_needed()
    page.mouse.wheel(0, 5000)
    expect(items).not_to_have_count(30)


def test_a_count_of_losses_opens_its_items(page: "sync_api.Page") -> None:
    page.get_by_role("button", name="show the items of quiz: only theirs right or better").click()
    expect(count(page)).to_have_text("16 of 100 items")  # multiples of 4 but not of 12
    expect(page.get_by_label("Result")).to_have_value("lost:1")
    expect(page.get_by_label("Search")).to_be_focused()


def test_the_theme_follows_the_system_until_one_is_chosen(page: "sync_api.Page") -> None:
    def background() -> str:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = background()
    page.emulate_media(color_scheme="dark")
    dark = background()
    assert dark != light
    theme = page.get_by_role("button", name="Theme")
    theme.click()
    expect(theme).to_have_text("Theme: light")
    assert background() == light
    theme.click()
    expect(theme).to_have_text("Theme: dark")
    page.emulate_media(color_scheme="light")
    assert background() == dark


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_screen_scrolls_sideways(page: "sync_api.Page", width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    row = page.locator("table.scores tbody tr").first.bounding_box()
    assert row is not None
    assert row["height"] < 260  # no column is as narrow as a letter
    for cell in page.locator("table.scores tbody tr").first.locator("td:visible > span, td:visible > svg").all():
        box = cell.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_in_the_way_of_a_reader(page: "sync_api.Page", scheme: str) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (npm ci in serve/web)")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(NARROW if scheme == "dark" else {"width": 1280, "height": 900})
    page.reload()
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
    assert [(v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in found] == []
