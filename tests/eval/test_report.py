"""The report: what it computes from records, and the pages it writes."""

import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eval.evaluate import Evaluation, Result, compare
from eval.report import items as report_items
from eval.report.breakdowns import best_and_worst, by_length, by_turns, paired_outcomes
from eval.report.html import html_report
from eval.report.items import item_list
from eval.report.markdown import markdown_report
from eval.tasks.base import MetricSpec, Record
from resonance.report.charts import log_ticks, nice_ticks
from resonance.report.curves import Curve, curve_chart, read_curves

from .reports import SPECS, quiz, quiz_record, report

ATTACK = '</script><script>window.attacked=1</script><img src=x onerror="window.attacked=1"> <!-- & \u2028'
OURS = quiz("ours", [place % 4 > 0 for place in range(60)])
THEIRS = quiz("theirs", [place % 2 > 0 for place in range(60)])
VOID = {"meta", "input", "line", "rect", "circle", "polyline"}


class Page(HTMLParser):
    """Elements, scripts' and styles' texts, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        assert self.opened == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.opened and self.opened[-1] in self.texts:
            self.texts[self.opened[-1]].append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return html_report(report(OURS, THEIRS))


def test_whatever_a_model_says_is_text() -> None:
    attack = Record(
        ATTACK,
        {"exact_match": (0.0, 1.0)},
        group=ATTACK,
        question=ATTACK,
        answer=ATTACK,
        expected=ATTACK,
        correct=False,
    )
    evaluation = Evaluation(
        ATTACK, "fp32", {"quiz": Result(SPECS, (attack,), notes=(ATTACK,)), "no": Result({}, error=ATTACK)}
    )
    made = report(evaluation, evaluation, provenance={"quiz": {"command": ATTACK, "settings": {ATTACK: ATTACK}}})
    page = Page(html_report(made))
    assert not {"img", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    data, script = page.texts["script"]
    assert "attacked" not in script
    assert json.loads(data)["items"][0]["q"] == ATTACK
    markdown = markdown_report(made)
    assert "<script" not in markdown
    assert "<img" not in markdown


def test_the_page_loads_nothing_and_runs_its_own_script_alone(page: str) -> None:
    parsed = Page(page)
    links = [attributes["href"] for _, attributes in parsed.elements if "href" in attributes]
    assert links
    anchors = {f"#{attributes['id']}" for _, attributes in parsed.elements if "id" in attributes}
    assert set(links) <= anchors
    assert not re.search(r"\ssrc=|https?://|@import|url\(|\sstyle=", page)
    (policy,) = (attributes["content"] or "" for _, attributes in parsed.elements if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; ")
    for text in (parsed.texts["style"][0], parsed.texts["script"][1]):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_scores_stand_with_interval_difference_and_what_the_items_can_show(page: str) -> None:
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert "75.0% 62.8 to 84.2 50.0% 37.7 to 62.3" in text  # Wilson's intervals of 45 and 30 of 60
    difference = compare([OURS, THEIRS])[0].differences[0]
    assert difference is not None
    assert difference.detectable is not None
    assert re.search(rf"▲ \+25\.0 points \+[\d.]+ to \+[\d.]+ p < \.001 · sees {100 * difference.detectable:.1f}", text)


def test_wins_and_losses_are_counted_and_their_items_listed(page: str) -> None:
    ours, theirs = quiz("ours", [True, True, False, False]), quiz("theirs", [True, False, True, False])
    (pair,) = paired_outcomes([ours, theirs])
    assert [pair.count(outcome) for outcome in ("both", "won", "lost", "neither")] == [1, 1, 1, 1]
    assert pair.items("lost") == ["item-002"]
    shown = html_report(report(ours, theirs))
    assert "quiz: theirs is right and ours is wrong (1)" in shown
    assert "item-002" in shown[shown.index("theirs is right") : shown.index("ours is right and")]


def test_items_without_right_or_wrong_win_by_their_score() -> None:
    specs = {"perplexity": MetricSpec("perplexity", higher_is_better=False)}

    def scored(label: str, nats: list[float]) -> Evaluation:
        records = tuple(Record(str(place), {"perplexity": (value, 2.0)}) for place, value in enumerate(nats))
        return Evaluation(label, "fp32", {"text": Result(specs, records)})

    (pair,) = paired_outcomes([scored("a", [1.0, 2.0, 3.0]), scored("b", [1.5, 1.0, 3.0])])
    assert [*pair.outcomes.values()] == ["won", "lost", "neither"]


def test_speed_is_not_won_or_lost_by_item() -> None:
    specs = {"tokens_per_s": MetricSpec("mean", measured=True)}
    fast, slow = (
        Evaluation(label, "fp32", {"speed": Result(specs, (Record("1", {"tokens_per_s": (value, 1.0)}),))})
        for label, value in (("fast", 9.0), ("slow", 1.0))
    )
    assert paired_outcomes([fast, slow]) == []


def test_accuracy_by_turns_is_in_the_order_of_the_turns() -> None:
    specs = {f"after_{count}": MetricSpec("proportion", share=True) for count in (30, 0, 6)}
    records = tuple(Record(f"{name}{place}", {name: (float(place > 0), 1.0)}) for name in specs for place in range(2))
    (breakdown,) = by_turns(compare([Evaluation("a", "fp32", {"turns": Result(specs, records)})]))
    assert [(x, label, scores[0] and scores[0].value) for x, label, scores in breakdown.points] == [
        (0.0, "0", 0.5),
        (6.0, "6", 0.5),
        (30.0, "30", 0.5),
    ]


def test_accuracy_by_length_is_over_parts_of_about_equal_size() -> None:
    evaluation = quiz("a", [place < 30 for place in range(60)])  # long questions are answered wrongly
    by_question, by_answer = by_length([evaluation])
    assert [scores[0] and scores[0].n for _, _, scores in by_question.points] == [15, 15, 15, 15]
    assert [scores[0] and scores[0].value for _, _, scores in by_question.points] == [1.0, 1.0, 0.0, 0.0]
    assert by_answer.points[0][1] == "7–21"  # "answer " and up to 14 letters
    assert by_length([quiz("few", [True] * 20)]) == []


def test_the_best_and_worst_answers_are_of_different_families() -> None:
    records = [
        quiz_record(place, place % 2 == 0, overlap=1.0 if place % 2 == 0 else place / 100) for place in range(30)
    ]
    best, worst = best_and_worst(Result(SPECS, tuple(records)))
    assert [record.item for record in best] == ["item-028", "item-026", "item-024"]  # the longest right answers
    assert [record.item for record in worst] == ["item-001", "item-003", "item-005"]  # the least overlap
    for chosen in (best, worst):
        assert len({record.group for record in chosen}) == 3


def test_what_the_list_of_items_leaves_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_items, "MOST_ITEMS", 5)
    records = (quiz_record(0, True, answer="z" * 3000), *(quiz_record(place, True) for place in range(1, 9)))
    listed = item_list([Evaluation("a", "fp32", {"quiz": Result(SPECS, records)})], [])
    assert listed.count == 5
    assert listed.omissions == [
        "quiz: the first 5 of 9 items; the rest is in eval/quiz.jsonl.",
        "quiz: texts end after 2,000 characters; eval/quiz.jsonl has all of them.",
    ]
    assert len(json.loads(listed.json)["items"][0]["a"][0]) < 2010


def test_curves_are_read_from_metrics_csv_in_full_and_drawn_thinned(tmp_path: Path) -> None:
    rows = "".join(f"{step},{10 - step / 1000},{'0.5' if step % 500 == 0 else ''},nan\n" for step in range(1, 5001))
    (tmp_path / "metrics.csv").write_text("step,train/loss,val/loss,lr\n" + rows + "broken\n")
    curves = {curve.name: curve for curve in read_curves(tmp_path)}
    assert set(curves) == {"train/loss", "val/loss"}
    assert curves["train/loss"].points == [(step, 10 - step / 1000) for step in range(1, 5001)]
    assert curves["val/loss"].points == [(step, 0.5) for step in range(500, 5001, 500)]
    assert read_curves(tmp_path / "nowhere") == []
    chart = str(curve_chart("Loss", [*curves.values()])["chart"])
    drawn = re.findall(r'points="([^"]*)"', chart)
    assert [len(points.split()) for points in drawn] == [385, 10]
    assert chart.count("<circle") == 0 and chart.count('<rect class="fill-1"') == 10  # marks of few points only
    assert 90 <= chart.count('class="reading"') <= 101
    assert "<title>step 5,000\ntrain/loss 5\nval/loss 0.5</title>" in chart


def test_a_share_that_never_changes_is_drawn_up_to_100_percent() -> None:
    figure = curve_chart("Reward accuracy", [Curve("val/reward_accuracy", [(1, 1.0), (2, 1.0)])], percent=True)
    assert ">100%</text>" in str(figure["chart"]) and ">200%</text>" not in str(figure["chart"])
    assert str(figure["subtitle"]).endswith("at the end 100%")


def test_training_curves_stand_in_the_report(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(
        "step,train/loss,val/loss,lr,eval/exact_match\n1,9,8,0.1,\n2,0.3,0.4,0.2,0.75\n"
    )
    page = html_report(report(quiz("a", [True]), curves=read_curves(tmp_path)))
    assert "by optimiser step, logarithmic" in page
    assert "<span>train/loss 0.3</span>" in page and "<span>val/loss 0.4</span>" in page
    assert "Learning rate over 2 logged steps" in page
    assert "by optimiser step; at the end 0.75" in page


def test_tasks_that_did_not_run_stand_with_the_reason() -> None:
    one = quiz("a", [True])
    failed = Evaluation("a", "fp32", {**one.results, "judge": Result({}, error="The judge cannot be reached.")})
    made = report(failed, not_run={"piqa": "No data."})
    for text in (html_report(made), markdown_report(made)):
        assert "judge, a: The judge cannot be reached." in text
        assert "piqa, a: No data." in text


def test_provenance_says_once_what_all_tasks_share() -> None:
    one = quiz("a", [True])
    both = Evaluation("a", "fp32", {**one.results, "other": one.results["quiz"]})
    shared = {"commit": "c0ffee", "seed": 7}
    entries = {
        "quiz": {**shared, "version": 3, "settings": {"n": 1}, "records_sha256": "ab" * 32},
        "other": {**shared, "version": 4, "settings": {}},
    }
    page = html_report(report(both, provenance=entries))
    assert page.count("c0ffee") == 1
    assert "<dt>Commit</dt><dd>c0ffee</dd>" in page
    assert "version 3" in page
    assert "<span>abababababab…</span>" in page
    assert "n 1" in page


def test_items_that_overlap_with_the_training_data_stand_with_the_scores_without_them() -> None:
    found = {
        "ngram": 13,
        "items": 4,
        "touched": 1,
        "share": 0.25,
        "untouched": {"exact_match": {"value": 2 / 3, "n": 3}},
    }
    made = report(quiz("a", [True, True, True, False]), contamination={"quiz": found})
    for text in (html_report(made), markdown_report(made)):
        assert "1 of 4 (by 13 words in a row)" in text
        assert "exact match 66.7%" in text
    assert 'id="contamination"' not in html_report(report(quiz("a", [True])))


def test_published_figures_stand_apart_with_protocol_and_source() -> None:
    specs = {"acc_norm": MetricSpec("proportion", share=True)}
    records = tuple(Record(str(place), {"acc_norm": (1.0, 1.0)}) for place in range(4))
    page = html_report(report(Evaluation("a", "fp32", {"hellaswag": Result(specs, records)})))
    scores, published = page.split('<section id="published">')
    assert "43.0%" not in scores
    assert "acc_norm: 43.0%" in published
    assert "zero-shot" in published
    assert 'id="published"' not in html_report(report(quiz("a", [True])))


def test_markdown_has_the_scores_comparison_and_provenance() -> None:
    ours, theirs = (
        quiz("our|s", [place % 4 > 0 for place in range(60)]),
        quiz("theirs", [place % 2 > 0 for place in range(60)]),
    )
    text = markdown_report(report(ours, theirs, provenance={"quiz": {"version": 2, "commit": "c0ffee" * 7}}))
    assert "| task | score | n | our\\|s | theirs | difference | sees |" in text
    assert "| quiz | exact match | 60 | 75.0% (62.8–84.2) | 50.0% (37.7–62.3) | +25.0 p&lt;.001 |" in text
    assert "| quiz | theirs | 30 | 15 | 0 | 15 |" in text
    assert "<details><summary>quiz, by family</summary>" in text
    assert "| commit | c0ffeec0ffee |" in text
    assert "| versions of tasks | quiz 2 |" in text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]), (0.0, 480.0, [0.0, 200.0, 400.0]), (3.0, 3.0, [3.0])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high) == expected


def test_logarithmic_ticks_are_1_2_and_5() -> None:
    assert log_ticks(0.05, 6.0) == [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    assert log_ticks(1e-6, 1.0) == [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0]
